import { CHUNK_BYTES, type Chunk, chunkCount, chunkLength, isZero } from "../chunk.ts";
import { readChunks, type SourceImage } from "./read-chunks.ts";

const ZEROES = Buffer.alloc(CHUNK_BYTES);

/** All bytes of an image, in order, zeros included; holes are not read. */
export async function* writeRaw(image: SourceImage): AsyncGenerator<Uint8Array, void> {
  const { sizeBytes } = image;
  const count = chunkCount(sizeBytes, CHUNK_BYTES);
  let next = 0;
  const zeroesUpTo = function* (index: number): Generator<Uint8Array, void> {
    for (; next < index; next += 1) yield ZEROES.subarray(0, chunkLength(sizeBytes, CHUNK_BYTES, next));
  };
  for await (const { index, bytes } of readChunks(image, CHUNK_BYTES)) {
    yield* zeroesUpTo(index);
    yield bytes;
    next = index + 1;
  }
  yield* zeroesUpTo(count);
}

/**
 * Cuts the bytes of an image into chunks, leaving out those that are all zeros, and returns its size. `onSize` is told of the bytes so far before any of them
 * are yielded, and may throw.
 */
export async function* readRaw(
  pieces: AsyncIterable<Uint8Array>,
  onSize: (sizeBytes: number) => void,
): AsyncGenerator<Chunk, number> {
  let buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  let [index, filled] = [0, 0];
  for await (const piece of pieces) {
    onSize(index * CHUNK_BYTES + filled + piece.length);
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + CHUNK_BYTES - filled);
      buffer.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < CHUNK_BYTES) continue;
      if (!isZero(buffer)) {
        yield { index, bytes: buffer };
        // The old one is the consumer's.
        buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      }
      [index, filled] = [index + 1, 0];
    }
  }
  const last = buffer.subarray(0, filled);
  if (filled > 0 && !isZero(last)) yield { index, bytes: last };
  return index * CHUNK_BYTES + filled;
}
