import { Buffer } from "node:buffer";

const ZEROS = Buffer.alloc(1024 * 1024);

/** True for bytes, at most 1 MiB, that are all zero. */
export function isZero(bytes: Uint8Array): boolean {
  return bytes.byteLength <= ZEROS.length && ZEROS.compare(bytes, 0, bytes.byteLength, 0, bytes.byteLength) === 0;
}
