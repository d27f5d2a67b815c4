import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { writeDurably } from "../write-durably.ts";

/** The installation's key, in the folder `keys` of the data directory. */
export const KEY_FILE = "installation.key";
/** The key that comes in its place. It is here before anything is wrapped by it, and goes to its place by a rename once the database knows it as the one in use. */
export const NEXT_KEY_FILE = `${KEY_FILE}.next`;
const KEY_BYTES = 32;
/** Says what it is, where it lies in a safe with other secrets. */
const FORM = /^caisson-key-1:([0-9a-f]{64})\n?$/;

/** The key in a file that has what `caisson keys export` printed; null: there is none in it. */
export function parseInstallationKey(text: string): Buffer | null {
  const hex = FORM.exec(text)?.[1];
  return hex === undefined ? null : Buffer.from(hex, "hex");
}

/** Null: there is no such file. Throws when it is there and cannot be read. */
export async function readKeyFile(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw unreadable(path, error);
  }
}

/** Makes a key, in a file that is durable when this resolves. */
export async function writeNewKey(directory: string, name: string, stepName: string): Promise<Buffer> {
  const key = randomBytes(KEY_BYTES);
  await writeDurably(directory, name, `caisson-key-1:${key.toString("hex")}\n`, 0o600, stepName);
  return key;
}

/** Tells nothing of the key. */
export function fingerprintOf(key: Buffer): string {
  return createHash("sha256").update("caisson key fingerprint\n").update(key).digest("hex").slice(0, 32);
}

/** Whether somebody who gives this has the key: the HMAC-SHA-256 of a constant under it, in hexadecimal, as the SDKs make it of what `caisson keys export` printed. The key itself does not travel. */
export function isProofOf(key: Buffer, proof: string): boolean {
  const expected = createHmac("sha256", key).update("caisson key kept\n").digest();
  const given = Buffer.from(proof, "hex");
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** It may be whole: only the reading failed. */
function unreadable(path: string, cause: unknown): CaissonError {
  const { code } = cause as NodeJS.ErrnoException;
  return new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    `Cannot use the snapshot store without the key of this installation: keys/${basename(path)} of the data directory cannot be read (${code}). Make it a file that the server can read. The server needs no restart for it`,
    { cause: new Error(path, { cause }) },
  );
}
