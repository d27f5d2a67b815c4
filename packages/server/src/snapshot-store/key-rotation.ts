import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { SnapshotStoreRecord } from "@caisson/database";
import { hasErrorCode, step, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import { writeDurably } from "../write-durably.ts";
import { fingerprintOf, KEY_FILE, NEXT_KEY_FILE, parseInstallationKey, readKeyFile, writeNewKey } from "./key-file.ts";

/** The former key, from before the database knows the new one as the one in use until nothing in the store needs it. */
const PREVIOUS = `${KEY_FILE}.previous`;

/** The files of a rotation of the installation's key, in the folder `keys` of the data directory. */
export class KeyRotationFiles {
  readonly #directory: string;

  constructor(dataDirectory: string) {
    this.#directory = join(dataDirectory, "keys");
  }

  /** The key that comes in the place of the one in use: that of a rotation which is not at its end, whose wraps count, or a new one. */
  async prepare(current: Buffer): Promise<Buffer> {
    const key = await this.#read(NEXT_KEY_FILE);
    // A copy of the one in use is none that could take its place.
    if (key !== null && !key.equals(current)) return key;
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    return writeNewKey(this.#directory, NEXT_KEY_FILE, "keys-rotate.prepare");
  }

  /** Throws unless the key that comes is still in its file: nobody could export it. */
  async requireNext(key: Buffer): Promise<void> {
    if ((await this.#read(NEXT_KEY_FILE))?.equals(key) === true) return;
    throw new CaissonError(
      "SNAPSHOT_STORE_UNAVAILABLE",
      `Cannot rotate the installation key: keys/${NEXT_KEY_FILE} of the data directory was taken away meanwhile. The key in use is the one that it was; run \`caisson keys rotate\` again`,
    );
  }

  /** Puts a copy of the key in use aside, before another one takes its place. One that is there from a rotation before, which was never put away, is kept as well. */
  async keepPrevious(current: Buffer): Promise<void> {
    await this.putFormerAway(current);
    const text = `caisson-key-1:${current.toString("hex")}\n`;
    await writeDurably(this.#directory, PREVIOUS, text, 0o600, "keys-finish.previous");
  }

  /** Puts the new key in its place. */
  async replace(key: Buffer): Promise<void> {
    await finishReplacement(this.#directory, fingerprintOf(key));
  }

  /** Puts away the former key, which nothing in the store needs any more. Returns where it lies, below the data directory; null: there is none, as when it is the one in use and nothing took its place. */
  async putFormerAway(current: Buffer): Promise<string | null> {
    const former = await this.#read(PREVIOUS);
    if (former === null) return null;
    const name = `${KEY_FILE}.former-${new Date().toISOString().replace(/[-:]/g, "")}`;
    const path = join(this.#directory, PREVIOUS);
    if (former.equals(current)) await rm(path);
    else await step("keys-finish.former", () => rename(path, join(this.#directory, name)));
    await syncDirectory(this.#directory);
    return former.equals(current) ? null : join("keys", name);
  }

  /** Null: there is no such file, or no key in it. */
  async #read(name: string): Promise<Buffer | null> {
    const text = await readKeyFile(join(this.#directory, name));
    return text === null ? null : parseInstallationKey(text);
  }
}

/** Puts the key with this fingerprint in its place where a rotation was cut off before it was, and returns it; null: there is none. The file has the former key or the new one, whatever happens. */
export async function finishReplacement(directory: string, keyFingerprint: string): Promise<Buffer | null> {
  const text = await readKeyFile(join(directory, NEXT_KEY_FILE));
  const key = text === null ? null : parseInstallationKey(text);
  if (key === null || fingerprintOf(key) !== keyFingerprint) return null;
  try {
    await step("keys-finish.replace", () => rename(join(directory, NEXT_KEY_FILE), join(directory, KEY_FILE)));
  } catch (error) {
    // Another use of the key was first.
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
  await syncDirectory(directory);
  return key;
}

/** What the database is to know where a key becomes the one in use by somebody's word, as after a restore: where the store has wraps by another one, those are still to go. */
export async function keyChangesFor(
  store: SnapshotStore,
  key: Buffer,
  signal: AbortSignal,
): Promise<Pick<SnapshotStoreRecord, "keyFingerprint" | "keyRotation">> {
  const keyFingerprint = fingerprintOf(key);
  const finishing = { stage: "finishing", newKeyFingerprint: keyFingerprint, sinceMs: Date.now() } as const;
  return { keyFingerprint, keyRotation: (await store.isMadeWithOthers(key, signal)) ? finishing : null };
}
