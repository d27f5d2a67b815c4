import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import type { KeyRotationState, SnapshotStoreRows } from "@caisson/database";
import { hasErrorCode, step, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { InstallationKeys } from "@caisson/snapshot-store";
import { fingerprintOf, KEY_FILE, NEXT_KEY_FILE, parseInstallationKey, readKeyFile, writeNewKey } from "./key-file.ts";
import { finishReplacement } from "./key-rotation.ts";

/**
 * The key of this installation, which wraps the keys of all organizations in the snapshot store. It is made once, in a file of its own in the data directory; without it nobody can read the store. The database remembers a
 * fingerprint of it, so that a key that is lost, or is another one, is told and never replaced: with a new key everything that is replicated would be lost silently. Throws `SNAPSHOT_STORE_UNAVAILABLE` then, so that only the
 * use of the store waits until the key is back.
 */
export async function ensureInstallationKey(dataDirectory: string, rows: SnapshotStoreRows): Promise<Buffer> {
  const directory = join(dataDirectory, "keys");
  const path = join(directory, KEY_FILE);
  let text = await readKeyFile(path);
  const { keyFingerprint } = await rows.get();
  if (keyFingerprint !== null && !hasKey(text, keyFingerprint)) {
    const rotated = await finishReplacement(directory, keyFingerprint);
    if (rotated !== null) return rotated;
    // A rotation may have put its key there since.
    text = await readKeyFile(path);
  }
  const key = text === null ? null : parseInstallationKey(text);
  if (text === null) {
    // Replicas without a fingerprint are of an older version.
    if (keyFingerprint !== null || (await rows.countReplicas()) > 0) throw new LostKeyError("it is gone", path);
    return makeKey(dataDirectory, rows);
  }
  if (key === null) throw new LostKeyError("the file has no key in it", path);
  const fingerprint = fingerprintOf(key);
  if (keyFingerprint === null) await rows.remember({ keyFingerprint: fingerprint });
  else if (keyFingerprint !== fingerprint) throw new LostKeyError("the file has another one", path);
  return key;
}

/** The key in use, and the one that a rotation which waits for its finish has prepared. Throws as `ensureInstallationKey` does. */
export async function readInstallationKeys(dataDirectory: string, rows: SnapshotStoreRows): Promise<InstallationKeys> {
  const current = await ensureInstallationKey(dataDirectory, rows);
  const { keyRotation } = await rows.get();
  const next = keyRotation?.stage === "waiting" ? await readNextKey(dataDirectory, keyRotation) : null;
  return { current, next };
}

/** The key that a rotation has prepared, and which waits for its finish. */
export async function readNextKey(
  dataDirectory: string,
  { newKeyFingerprint }: KeyRotationState,
): Promise<Buffer | "absent"> {
  const text = await readKeyFile(join(dataDirectory, "keys", NEXT_KEY_FILE));
  const key = text === null ? null : parseInstallationKey(text);
  return key !== null && fingerprintOf(key) === newKeyFingerprint ? key : "absent";
}

/** The key in the file, where the database knows another one, as after it was restored from before `caisson keys rotate`; null: there is none, or it is the one that the database knows. Throws what keeps it from being read, or compared. */
export async function readUnknownKey(dataDirectory: string, rows: SnapshotStoreRows): Promise<Buffer | null> {
  if (await isKeyThere(dataDirectory, rows)) return null;
  return parseInstallationKey((await readKeyFile(join(dataDirectory, "keys", KEY_FILE))) ?? "");
}

/**
 * Makes another key in place of one that is lost for good, and returns its fingerprint, which the caller's transaction remembers: until then the file is another key than the known one. What the file had stays beside it, as
 * `installation.key.former-TIME`. Throws `INVALID_REQUEST` while the known key is there, or the one that is to take its place and opens everything as well, and what keeps them from being read, or compared: that is no loss.
 */
export async function replaceInstallationKey(dataDirectory: string, rows: SnapshotStoreRows): Promise<string> {
  if (await isKeyThere(dataDirectory, rows))
    throw new CaissonError("INVALID_REQUEST", "Cannot make a new installation key: the one that there is can be used");
  const { keyRotation } = await rows.get();
  if (keyRotation?.stage === "waiting" && (await readNextKey(dataDirectory, keyRotation)) !== "absent")
    throw new CaissonError(
      "INVALID_REQUEST",
      `Cannot make a new installation key: the one in keys/${NEXT_KEY_FILE} of the data directory, which \`caisson keys rotate\` made, opens everything in the store as well. Move it to keys/${KEY_FILE}, and run \`caisson store accept\``,
    );
  await keepFormer(join(dataDirectory, "keys"));
  return fingerprintOf(await writeKey(dataDirectory));
}

/** Whether the key that the database knows can be used. */
function isKeyThere(dataDirectory: string, rows: SnapshotStoreRows): Promise<boolean> {
  return ensureInstallationKey(dataDirectory, rows).then(
    () => true,
    (error: unknown) => {
      if (error instanceof LostKeyError) return false;
      throw error;
    },
  );
}

function hasKey(text: string | null, keyFingerprint: string): boolean {
  const key = text === null ? null : parseInstallationKey(text);
  return key !== null && fingerprintOf(key) === keyFingerprint;
}

/** Puts away what is no key that anybody knows: a mistake may be in the database. */
async function keepFormer(directory: string): Promise<void> {
  const time = new Date().toISOString().replace(/[-:]/g, "");
  try {
    await step("installation-key.former", () =>
      rename(join(directory, KEY_FILE), join(directory, `${KEY_FILE}.former-${time}`)),
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
  return writeNewKey(directory, KEY_FILE, "installation-key.commit");
}

/** The key that the database knows is not in its file. */
class LostKeyError extends CaissonError {
  constructor(reason: string, path: string) {
    super(
      "SNAPSHOT_STORE_UNAVAILABLE",
      `Cannot use the snapshot store without the key of this installation: ${reason}. Put what \`caisson keys export\` printed back into keys/${KEY_FILE} of the data directory; nothing in the store can be read with another key. The server needs no restart for it. Where \`caisson keys rotate\` has replaced the key, it is the newer one, which the server has that did so. While a rotation waits for \`caisson keys finish\`, the new key is good as well. Where that key is in the file, and the database is from before the rotation, \`caisson store accept\` has the database know it. If the key is lost for good: \`caisson store accept --new-key\`, with another place in snapshot_store.url`,
      { cause: new Error(path) },
    );
    this.name = "LostKeyError";
  }
}
