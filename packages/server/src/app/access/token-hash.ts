import { createHash } from "node:crypto";

/** Tokens are kept as this hash: they are random enough that nothing slower is needed. */
export function hashToken(token: string): Uint8Array {
  return createHash("sha256").update(token).digest();
}
