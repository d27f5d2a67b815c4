import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode, step, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { writeDurably } from "../write-durably.ts";
import { fingerprintOf, KEY_FILE, parseInstallationKey, readKeyFile, writeNewKey } from "./key-file.ts";

/** The key that comes. It is here before anything is wrapped by it, and goes to its place by a rename once the database knows it. */
const NEXT = `${KEY_FILE}.next`;
/** The former key, from before the database knows the new one until nothing in the store needs it. */
const PREVIOUS = `${KEY_FILE}.previous`;

/** The files of a rotation of the installation's key, in the folder `keys` of the data directory. */
export class KeyRotationFiles {
  readonly #directory: string;

  constructor(dataDirectory: string) {
    this.#directory = join(dataDirectory, "keys");
  }

  /**
   * Whether a rotation was cut off after the database knew its key. Ask when the key was used: that puts it in its place. A former key that is still the one in use is of a rotation that never came so far, and whose new key somebody took away: it is
   * no former one, and the copy goes.
   */
  async isToBeFinished(): Promise<boolean> {
    const [next, previous, text] = await Promise.all([NEXT, PREVIOUS, KEY_FILE].map((name) => this.#read(name)));
    if (next !== null || typeof previous !== "string") return false;
    const key = parseInstallationKey(text ?? "");
    if (key === null || parseInstallationKey(previous)?.equals(key) !== true) return true;
    await rm(join(this.#directory, PREVIOUS), { force: true });
    await syncDirectory(this.#directory);
    return false;
  }

  /** The key that comes: that of a rotation which was cut off, whose wraps count, or a new one. */
  async prepare(): Promise<Buffer> {
    const key = await this.#nextKey();
    if (key !== null) return key;
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    return writeNewKey(this.#directory, NEXT, "keys-rotate.prepare");
  }

  /** Puts a copy of the former key aside. Throws unless the key that comes is still in its file: nobody could read the store afterwards. */
  async keepPrevious(key: Buffer): Promise<void> {
    const former = await this.#read(KEY_FILE);
    const isThere = (await this.#nextKey())?.equals(key) === true;
    if (former === null || !isThere)
      throw new CaissonError(
        "SNAPSHOT_STORE_UNAVAILABLE",
        `Cannot rotate the installation key: keys/${former === null ? KEY_FILE : NEXT} of the data directory was taken away meanwhile. The key is the one that it was; run \`caisson keys rotate\` again`,
      );
    await writeDurably(this.#directory, PREVIOUS, former, 0o600, "keys-rotate.previous");
  }

  /** Puts the new key in its place. */
  async replace(key: Buffer): Promise<void> {
    await finishReplacement(this.#directory, fingerprintOf(key));
  }

  /** Puts away the former key, which nothing in the store needs any more. Returns where it lies, below the data directory. */
  async putFormerAway(): Promise<string> {
    const name = `${KEY_FILE}.former-${new Date().toISOString().replace(/[-:]/g, "")}`;
    await step("keys-rotate.former", () => rename(join(this.#directory, PREVIOUS), join(this.#directory, name)));
    await syncDirectory(this.#directory);
    return join("keys", name);
  }

  async #nextKey(): Promise<Buffer | null> {
    const text = await this.#read(NEXT);
    return text === null ? null : parseInstallationKey(text);
  }

  #read(name: string): Promise<string | null> {
    return readKeyFile(join(this.#directory, name));
  }
}

/** Puts the key with this fingerprint in its place where a rotation was cut off before it was, and returns it; null: there is none. The file has the former key or the new one, whatever happens. */
export async function finishReplacement(directory: string, keyFingerprint: string): Promise<Buffer | null> {
  const text = await readKeyFile(join(directory, NEXT));
  const key = text === null ? null : parseInstallationKey(text);
  if (key === null || fingerprintOf(key) !== keyFingerprint) return null;
  try {
    await step("keys-rotate.replace", () => rename(join(directory, NEXT), join(directory, KEY_FILE)));
  } catch (error) {
    // Another use of the key was first.
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
  await syncDirectory(directory);
  return key;
}
