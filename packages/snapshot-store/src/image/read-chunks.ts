import { type Chunk, chunkLength, isZero } from "../chunk.ts";

/** An image that does not change while it is read. */
export interface SourceImage {
  readonly sizeBytes: number;
  /** What may hold something else than zeros, in order and without overlaps. */
  pieces(): AsyncIterable<{ readonly offset: number; readonly bytes: Uint8Array }>;
}

/** A part of an image, in bytes. */
export interface ImagePart {
  readonly offset: number;
  readonly length: number;
}

/** An image of which only that is read in which it may differ from another snapshot of the organization. */
export interface ImageDifference extends SourceImage {
  /** The other snapshot. */
  readonly baseId: string;
  /** Where they may differ, in order and without overlaps: elsewhere, up to the end of the shorter one, both are the same. `pieces` gives what lies there alone. */
  readonly changed: readonly ImagePart[];
}

/** The chunks of an image that are not all zeros, in order. */
export async function* readChunks(image: SourceImage, chunkBytes: number): AsyncGenerator<Chunk, void> {
  let current: Chunk | null = null;
  for await (const { offset, bytes } of image.pieces()) {
    for (let at = 0; at < bytes.length; ) {
      const index = Math.floor((offset + at) / chunkBytes);
      const isNext: boolean = current?.index !== index;
      if (isNext && current !== null && !isZero(current.bytes)) yield current;
      const chunk: Chunk =
        current === null || isNext
          ? { index, bytes: Buffer.alloc(chunkLength(image.sizeBytes, chunkBytes, index)) }
          : current;
      current = chunk;
      const inside = offset + at - index * chunkBytes;
      const part = bytes.subarray(at, at + chunk.bytes.length - inside);
      chunk.bytes.set(part, inside);
      at += part.length;
    }
  }
  if (current !== null && !isZero(current.bytes)) yield current;
}
