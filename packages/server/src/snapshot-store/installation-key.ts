import { randomBytes } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode, syncDirectory } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { writeDurably } from "../write-durably.ts";

const FILE = "installation.key";
const KEY_BYTES = 32;
/** Says what it is, where it lies in a safe with other secrets. */
const FORM = /^caisson-key-1:([0-9a-f]{64})\n?$/;

/**
 * The key of this installation, which wraps the keys of all organizations in the snapshot store. It is made once, in a file of its own in the data directory; without it nobody can read the store. Throws
 * `INVALID_CONFIG` for a file that is none.
 */
export async function ensureInstallationKey(dataDirectory: string): Promise<Buffer> {
  const directory = join(dataDirectory, "keys");
  const path = join(directory, FILE);
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw error;
  });
  if (text === null) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await syncDirectory(dataDirectory);
    const key = randomBytes(KEY_BYTES);
    await writeDurably(directory, FILE, `caisson-key-1:${key.toString("hex")}\n`, 0o600, "installation-key.commit");
    return key;
  }
  const key = FORM.exec(text)?.[1];
  if (key !== undefined) return Buffer.from(key, "hex");
  throw new CaissonError(
    "INVALID_CONFIG",
    `Cannot read the installation key in ${path}: it is no key. Restore the file from where you keep it; with another key nothing in the snapshot store can be read`,
  );
}
