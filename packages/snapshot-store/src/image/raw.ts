import { CHUNK_BYTES, type Chunk, chunkCount, chunkLength, isZero } from "../chunk.ts";
import { invalidFile } from "../invalid-file.ts";
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

export interface ReadRawOptions {
  /** Of the image; what comes after so many bytes is read and left out. */
  readonly sizeBytes: number;
  /** Told how many bytes have come, and may throw. */
  readonly onReceived: (bytes: number) => void;
}

/** Cuts the bytes of an image into chunks, leaving out those that are all zeros. Throws `INVALID_SNAPSHOT_FILE` when fewer come than the image has. */
export async function* readRaw(
  pieces: AsyncIterable<Uint8Array>,
  { sizeBytes, onReceived }: ReadRawOptions,
): AsyncGenerator<Chunk, void> {
  let [index, filled, received] = [0, 0, 0];
  let buffer = Buffer.allocUnsafeSlow(chunkLength(sizeBytes, CHUNK_BYTES, 0));
  for await (const piece of pieces) {
    const wanted = piece.subarray(0, Math.max(0, sizeBytes - received));
    received += piece.length;
    onReceived(received);
    for (let at = 0; at < wanted.length; ) {
      const part = wanted.subarray(at, at + buffer.length - filled);
      buffer.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < buffer.length) continue;
      if (!isZero(buffer)) yield { index, bytes: buffer };
      [index, filled] = [index + 1, 0];
      // The old one is the consumer's.
      buffer = Buffer.allocUnsafeSlow(Math.max(0, chunkLength(sizeBytes, CHUNK_BYTES, index)));
    }
  }
  if (received >= sizeBytes) return;
  throw invalidFile(`the image has ${received} bytes, and its file system ${sizeBytes}: it was cut`);
}
