import { type Chunk, chunkLength, isZero } from "../chunk.ts";

/** An image that does not change while it is read. */
export interface SourceImage {
  readonly sizeBytes: number;
  /** What may hold something else than zeros, in order and without overlaps; the rest is never read. */
  data(): AsyncIterable<{ readonly offset: number; readonly length: number }>;
  /** Fills the buffer with the bytes from `offset` on. */
  read(offset: number, target: Uint8Array): Promise<void>;
}

/** The chunks of an image that are not all zeros, in order. Reads what may hold data once, and nothing else. */
export async function* readChunks(image: SourceImage, chunkBytes: number): AsyncGenerator<Chunk, void> {
  let current: Chunk | null = null;
  for await (const { offset, length } of image.data()) {
    const end = Math.min(offset + length, image.sizeBytes);
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / chunkBytes);
      const isNext: boolean = current?.index !== index;
      if (isNext && current !== null && !isZero(current.bytes)) yield current;
      const chunk: Chunk =
        current === null || isNext
          ? { index, bytes: Buffer.alloc(chunkLength(image.sizeBytes, chunkBytes, index)) }
          : current;
      current = chunk;
      const inside = at - index * chunkBytes;
      const wanted = Math.min(end - at, chunk.bytes.length - inside);
      await image.read(at, chunk.bytes.subarray(inside, inside + wanted));
      at += wanted;
    }
  }
  if (current !== null && !isZero(current.bytes)) yield current;
}
