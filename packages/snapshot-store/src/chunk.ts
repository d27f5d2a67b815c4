import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { constants, crc32, zstdCompress, zstdDecompress } from "node:zlib";
import { invalidFile } from "./invalid-file.ts";

/** What writers cut images into. Each image says which size it has, so that this may change without a new version of the format. */
export const CHUNK_BYTES = 2 ** 20;
const ZEROES = Buffer.alloc(CHUNK_BYTES);
/** The fastest level: a higher one takes twice the time for a tenth of the size. */
const LEVEL = 1;
/** A frame may ask its reader for a window of gigabytes; no chunk needs more than the largest chunk. */
const WINDOW_LOG_MAX = 22;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** A piece of an image that holds something else than zeros. Piece `index` begins at `index` times the size of chunks; the last one may be shorter. */
export interface Chunk {
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** A chunk as it is stored. */
export interface EncodedChunk {
  /** SHA-256 of the chunk itself: its address. */
  readonly id: Buffer;
  readonly isCompressed: boolean;
  readonly payload: Uint8Array;
  /** CRC-32 of the payload: a changed bit of it may leave what it decodes to as it was. */
  readonly crc: number;
}

export function chunkCount(sizeBytes: number, chunkBytes: number): number {
  return Math.ceil(sizeBytes / chunkBytes);
}

/** How long chunk `index` of an image of `sizeBytes` is. */
export function chunkLength(sizeBytes: number, chunkBytes: number, index: number): number {
  return Math.min(chunkBytes, sizeBytes - index * chunkBytes);
}

export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROES.length) {
    const part = bytes.subarray(at, at + ZEROES.length);
    if (ZEROES.compare(part, 0, part.length, 0, part.length) !== 0) return false;
  }
  return true;
}

/** Compresses a chunk where that makes it smaller. */
export async function encodeChunk(bytes: Uint8Array): Promise<EncodedChunk> {
  const compressed = await compress(bytes, {
    chunkSize: Math.max(1024, bytes.length),
    params: { [constants.ZSTD_c_compressionLevel]: LEVEL },
  });
  const isCompressed = compressed.length < bytes.length;
  const payload = isCompressed ? compressed : bytes;
  return { id: sha256(bytes), isCompressed, payload, crc: crc32(payload) };
}

/**
 * Gives back the chunk, which has exactly `length` bytes and the hash that is its id. Throws `INVALID_SNAPSHOT_FILE` for anything else; whatever the payload is, no more than
 * `length` bytes are made of it. `what` names it in errors.
 */
export async function decodeChunk(
  { id, isCompressed, payload, crc }: EncodedChunk,
  length: number,
  what: string,
): Promise<Uint8Array> {
  // What does not compress is stored as it is, so nothing grows.
  const isLengthRight = isCompressed ? payload.length > 0 && payload.length < length : payload.length === length;
  if (!isLengthRight) throw invalidFile(`${what} has ${payload.length} bytes stored for ${length}`);
  if (crc32(payload) !== crc) throw invalidFile(`${what} is damaged (its checksum differs)`);
  const bytes = isCompressed ? await expand(payload, length, what) : payload;
  if (bytes.length !== length) throw invalidFile(`${what} has ${bytes.length} bytes instead of ${length}`);
  if (!sha256(bytes).equals(id)) throw invalidFile(`${what} is damaged (its SHA-256 differs)`);
  return bytes;
}

async function expand(payload: Uint8Array, length: number, what: string): Promise<Uint8Array> {
  const options = {
    maxOutputLength: length,
    chunkSize: Math.max(1024, length),
    params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
  };
  return decompress(payload, options).catch((cause: unknown) => {
    throw invalidFile(`${what} cannot be decompressed into ${length} bytes`, { cause });
  });
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
