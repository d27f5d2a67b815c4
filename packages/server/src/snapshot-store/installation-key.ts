import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { SnapshotStoreRows } from "@caisson/database";
import { hasErrorCode, step, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { writeDurably } from "../write-durably.ts";

const FILE = "installation.key";
const KEY_BYTES = 32;
/** Says what it is, where it lies in a safe with other secrets. */
const FORM = /^caisson-key-1:([0-9a-f]{64})\n?$/;

/**
 * The key of this installation, which wraps the keys of all organizations in the snapshot store. It is made once, in a file of its own in the data directory; without it nobody can read the store. The database remembers a
 * fingerprint of it, so that a key that is lost, or is another one, is told and never replaced: with a new key everything that is replicated would be lost silently. Throws `SNAPSHOT_STORE_UNAVAILABLE` then, so that only the
 * use of the store waits until the key is back.
 */
export async function ensureInstallationKey(dataDirectory: string, rows: SnapshotStoreRows): Promise<Buffer> {
  const path = join(dataDirectory, "keys", FILE);
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw unreadable(path, error);
  });
  const { keyFingerprint } = await rows.get();
  if (text === null) {
    // Replicas without a fingerprint are of an older version.
    if (keyFingerprint !== null || (await rows.countReplicas()) > 0) throw new LostKeyError("it is gone", path);
    return makeKey(dataDirectory, rows);
  }
  const key = parseInstallationKey(text);
  if (key === null) throw new LostKeyError("the file has no key in it", path);
  const fingerprint = fingerprintOf(key);
  if (keyFingerprint === null) await rows.remember({ keyFingerprint: fingerprint });
  else if (keyFingerprint !== fingerprint) throw new LostKeyError("the file has another one", path);
  return key;
}

/** The key in a file that has what `caisson keys export` printed; null: there is none in it. */
export function parseInstallationKey(text: string): Buffer | null {
  const hex = FORM.exec(text)?.[1];
  return hex === undefined ? null : Buffer.from(hex, "hex");
}

/**
 * Makes another key in place of one that is lost for good, and returns its fingerprint, which the caller's transaction remembers: until then the file is another key than the known one. What the file had stays beside it, as
 * `installation.key.former-TIME`. Throws `INVALID_REQUEST` while the known key is there, and what keeps it from being read, or compared: that is no loss.
 */
export async function replaceInstallationKey(dataDirectory: string, rows: SnapshotStoreRows): Promise<string> {
  const isThere = await ensureInstallationKey(dataDirectory, rows).then(
    () => true,
    (error: unknown) => {
      if (error instanceof LostKeyError) return false;
      throw error;
    },
  );
  if (isThere)
    throw new CaissonError("INVALID_REQUEST", "Cannot make a new installation key: the one that there is can be used");
  await keepFormer(join(dataDirectory, "keys"));
  return fingerprintOf(await writeKey(dataDirectory));
}

/** Puts away what is no key that anybody knows: a mistake may be in the database. */
async function keepFormer(directory: string): Promise<void> {
  const time = new Date().toISOString().replace(/[-:]/g, "");
  try {
    await step("installation-key.former", () =>
      rename(join(directory, FILE), join(directory, `${FILE}.former-${time}`)),
    );
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return;
    throw error;
  }
  await syncDirectory(directory);
}

/** The file first: what is in the database is a key that there is, or was. */
async function makeKey(dataDirectory: string, rows: SnapshotStoreRows): Promise<Buffer> {
  const key = await writeKey(dataDirectory);
  await step("installation-key.remember", () => rows.remember({ keyFingerprint: fingerprintOf(key) }));
  return key;
}

async function writeKey(dataDirectory: string): Promise<Buffer> {
  const directory = join(dataDirectory, "keys");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await syncDirectory(dataDirectory);
  const key = randomBytes(KEY_BYTES);
  await writeDurably(directory, FILE, `caisson-key-1:${key.toString("hex")}\n`, 0o600, "installation-key.commit");
  return key;
}

/** Tells nothing of the key. */
function fingerprintOf(key: Buffer): string {
  return createHash("sha256").update("caisson key fingerprint\n").update(key).digest("hex").slice(0, 32);
}

/** The key that the database knows is not in its file. */
class LostKeyError extends CaissonError {
  constructor(reason: string, path: string) {
    super(
      "SNAPSHOT_STORE_UNAVAILABLE",
      `Cannot use the snapshot store without the key of this installation: ${reason}. Put what \`caisson keys export\` printed back into keys/${FILE} of the data directory; nothing in the store can be read with another key. The server needs no restart for it. If the key is lost for good: \`caisson store accept --new-key\`, with another place in snapshot_store.url`,
      { cause: new Error(path) },
    );
    this.name = "LostKeyError";
  }
}

/** It may be whole: only the reading failed. */
function unreadable(path: string, cause: unknown): CaissonError {
  const { code } = cause as NodeJS.ErrnoException;
  return new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    `Cannot use the snapshot store without the key of this installation: keys/${FILE} of the data directory cannot be read (${code}). Make it a file that the server can read. The server needs no restart for it`,
    { cause: new Error(path, { cause }) },
  );
}
