import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Chunk, encodeChunk, sha256 } from "../chunk.ts";
import { encodeHeader, type SnapshotHeader } from "../header.ts";
import { ImageDigest } from "../image-digest.ts";
import { mapInOrder } from "../map-in-order.ts";
import { encodeHead, encodePreamble, type FrameHead } from "./frame.ts";

/** Chunks that are compressed at a time: as many as there are processors on a small host, so that others get theirs. */
const WIDTH = 2;

/**
 * Writes a snapshot file, in pieces of at most a chunk. The chunks come in order of their index, none of them all zeros. Takes no more of them than are asked for, and memory for
 * a few.
 */
export async function* writeSnapshotFile(
  header: SnapshotHeader,
  chunks: AsyncIterable<Chunk>,
): AsyncGenerator<Buffer, void> {
  const image = new ImageDigest(header.sizeBytes, header.chunkBytes);
  const heads = createHash("sha256");
  const frame = (head: Omit<FrameHead, "length">, payload: Uint8Array): Buffer => {
    const encoded = encodeHead({ ...head, length: payload.length });
    if (head.kind !== "end") heads.update(encoded);
    return Buffer.concat([encoded, payload]);
  };
  const plain = (kind: "header" | "end", payload: Buffer): Buffer =>
    frame({ kind, isCompressed: false, index: 0, crc: crc32(payload), id: sha256(payload) }, payload);

  yield Buffer.concat([encodePreamble(), plain("header", encodeHeader(header))]);
  let count = 0;
  const encode = async ({ index, bytes }: Chunk) => ({ index, encoded: await encodeChunk(bytes) });
  for await (const { index, encoded } of mapInOrder(chunks, WIDTH, encode)) {
    const { id, isCompressed, payload, crc } = encoded;
    image.add(index, id);
    count += 1;
    yield frame({ kind: "chunk", isCompressed, index, crc, id }, payload);
  }
  const countBytes = Buffer.alloc(8);
  countBytes.writeBigUInt64LE(BigInt(count));
  yield plain("end", Buffer.concat([countBytes, image.digest(), heads.digest()]));
}
