import { mkdir, readFile } from "node:fs/promises";
import type { Leadership } from "@caisson/database";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import ssh2, { type ParsedKey } from "ssh2";
import { fingerprintOf } from "../app/ssh/public-key.ts";
import { writeDurably } from "../write-durably.ts";

const KEY_NAME = "host_ed25519_key";

/** By what clients know this server again. */
export interface HostKey {
  /** In OpenSSH's form. */
  readonly privateKey: string;
  /** As a line of `known_hosts` has it behind the name: type and key. */
  readonly publicKey: string;
  readonly fingerprint: string;
}

/**
 * The key in the directory, which is made the first time; where several servers can lead, the one that all of them have. What a crash leaves in between is made again. Throws `INVALID_CONFIG` for a file
 * that is no key.
 */
export async function openHostKey(directory: string, leadership: Leadership | null = null): Promise<HostKey> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const own = (await readKey(directory)) ?? (await makeKey(directory));
  const privateKey = parseHostKey(own) === null ? own : ((await leadership?.share(KEY_NAME, own)) ?? own);
  if (privateKey !== own) await writeDurably(directory, KEY_NAME, privateKey, 0o600, "ssh-host-key.file");
  const key = parseHostKey(privateKey);
  if (key === null) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `${directory}/${KEY_NAME} is no Ed25519 key of OpenSSH. Put it back from a backup; or remove it, and clients will be told that the server has a new key`,
    );
  }
  return { privateKey, publicKey: publicKeyOf(key), fingerprint: fingerprintOf(key.getPublicSSH()) };
}

async function readKey(directory: string): Promise<string | null> {
  try {
    return await readFile(`${directory}/${KEY_NAME}`, "utf8");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw error;
  }
}

async function makeKey(directory: string): Promise<string> {
  const privateKey = generateKey();
  await writeDurably(directory, KEY_NAME, privateKey, 0o600, "ssh-host-key.file");
  return privateKey;
}

/** One in 256 keys that ssh2 1.17 makes is broken: it drops the zeros that the public half begins with. Such a key is not taken. */
function generateKey(): string {
  for (;;) {
    const { private: privateKey } = ssh2.utils.generateKeyPairSync("ed25519", { comment: "caisson" });
    if (parseHostKey(privateKey) !== null) return privateKey;
  }
}

function parseHostKey(privateKey: string): ParsedKey | null {
  const key = ssh2.utils.parseKey(privateKey);
  return key instanceof Error || key.type !== "ssh-ed25519" || key.getPrivatePEM() === null ? null : key;
}

function publicKeyOf(key: ParsedKey): string {
  return `${key.type} ${key.getPublicSSH().toString("base64")}`;
}
