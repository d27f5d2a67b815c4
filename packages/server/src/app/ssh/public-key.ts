import { createHash } from "node:crypto";
import { CaissonError } from "@caisson/model";
import ssh2 from "ssh2";

/** Types of keys that may log in. */
const TYPES: ReadonlySet<string> = new Set([
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "ssh-rsa",
]);
const RSA_BITS_MIN = 2048;

export interface PublicKey {
  readonly type: string;
  readonly bytes: Buffer;
  readonly fingerprint: string;
  /** What stands behind the key in its line. */
  readonly comment: string;
}

/** As `ssh-keygen -l` shows it. */
export function fingerprintOf(bytes: Uint8Array): string {
  return `SHA256:${createHash("sha256").update(bytes).digest("base64").replace(/=+$/, "")}`;
}

/** Reads a line of a `.pub` file. Throws `INVALID_REQUEST`. */
export function parsePublicKey(line: string): PublicKey {
  if (line.includes("PRIVATE KEY"))
    throw invalid("this is a private key. Keep it to yourself, and give the file that ends in .pub");
  const [type = "", encoded = "", ...rest] = line.trim().split(/\s+/);
  const key = ssh2.utils.parseKey(`${type} ${encoded}`);
  if (key instanceof Error || key.type !== type)
    throw invalid("this is no public key of OpenSSH. Give a line such as: ssh-ed25519 AAAA… name");
  if (!TYPES.has(type))
    throw invalid(`keys of the type ${type} are not taken. Make another one with: ssh-keygen -t ed25519`);
  const bytes = key.getPublicSSH();
  if (type === "ssh-rsa" && rsaBits(bytes) < RSA_BITS_MIN)
    throw invalid(`it has fewer than ${RSA_BITS_MIN} bits. Make another one with: ssh-keygen -t ed25519`);
  return { type, bytes, fingerprint: fingerprintOf(bytes), comment: rest.join(" ") };
}

/** The modulus is the last of three fields, each with its length in front; a zero byte may lead it. */
function rsaBits(bytes: Buffer): number {
  let offset = 0;
  let length = 0;
  for (let field = 0; field < 3; field += 1) {
    offset += length;
    length = bytes.readUInt32BE(offset);
    offset += 4;
  }
  return (bytes[offset] === 0 ? length - 1 : length) * 8;
}

function invalid(problem: string): CaissonError {
  return new CaissonError("INVALID_REQUEST", `Cannot add the key: ${problem}`);
}
