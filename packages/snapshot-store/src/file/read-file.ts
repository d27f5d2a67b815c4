import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Chunk, chunkCount, chunkLength, decodeChunk, isZero, sha256 } from "../chunk.ts";
import { HEADER_BYTES_MAX, parseHeader, type SnapshotHeader } from "../header.ts";
import { ImageDigest } from "../image-digest.ts";
import { invalidFile } from "../invalid-file.ts";
import { mapInOrder } from "../map-in-order.ts";
import { ByteSource } from "./byte-source.ts";
import { decodeHead, encodeHead, type FrameHead, HEAD_BYTES, PREAMBLE_BYTES, requirePreamble } from "./frame.ts";

/** Chunks that are decompressed at a time. */
const WIDTH = 2;
const END_BYTES = 8 + 32 + 32;

interface ChunkFrame {
  readonly head: FrameHead;
  readonly payload: Buffer;
  readonly what: string;
}

/**
 * Reads a snapshot file that may be damaged, cut or hostile. Only the end of a file says that it is whole: what was read is to be believed once all chunks were
 * read and `imageDigest` is there. Everything that is wrong with it is `INVALID_SNAPSHOT_FILE`. Memory is bounded by a few chunks.
 */
export class SnapshotFileReader {
  readonly header: SnapshotHeader;
  readonly #source: ByteSource;
  readonly #heads = createHash("sha256");
  #imageDigest: Buffer | null = null;

  private constructor(header: SnapshotHeader, source: ByteSource, head: FrameHead) {
    this.header = header;
    this.#source = source;
    this.#heads.update(encodeHead(head));
  }

  /** Reads up to the header. */
  static async open(pieces: AsyncIterable<Uint8Array>): Promise<SnapshotFileReader> {
    const source = new ByteSource(pieces);
    requirePreamble(await source.read(PREAMBLE_BYTES));
    const head = decodeHead(await source.read(HEAD_BYTES), "its header");
    if (head.kind !== "header" || head.length === 0 || head.length > HEADER_BYTES_MAX)
      throw invalidFile("it does not begin with a header");
    const payload = await source.read(head.length);
    requirePlain(head, payload, "its header");
    return new SnapshotFileReader(parseHeader(payload), source, head);
  }

  /** How many bytes of the file were read. */
  get position(): number {
    return this.#source.position;
  }

  /** Identity of the whole image, when all chunks were read and the file has proved to be whole. */
  get imageDigest(): Buffer {
    if (this.#imageDigest === null) throw new Error("The snapshot file was not read to its end");
    return this.#imageDigest;
  }

  /** The chunks in order, each verified; what lies between them is zeros. Ends only when the whole file is verified. To be called once. */
  async *chunks(): AsyncGenerator<Chunk, void> {
    const { sizeBytes, chunkBytes } = this.header;
    const image = new ImageDigest(sizeBytes, chunkBytes);
    const decode = async ({ head, payload, what }: ChunkFrame): Promise<Chunk> => {
      const { index } = head;
      const bytes = await decodeChunk({ ...head, payload }, chunkLength(sizeBytes, chunkBytes, index), what);
      if (isZero(bytes)) throw invalidFile(`${what} is all zeros, which are left out`);
      return { index, bytes };
    };
    let end: Buffer | null = null;
    const frames = this.#frames(image, (payload) => {
      end = payload;
    });
    yield* mapInOrder(frames, WIDTH, decode);
    this.#imageDigest = requireEnd(end);
  }

  /** Reads frames up to the end, whose payload is given to `onEnd` when it fits what came before it and nothing comes after it. */
  async *#frames(image: ImageDigest, onEnd: (payload: Buffer) => void): AsyncGenerator<ChunkFrame, void> {
    const { sizeBytes, chunkBytes } = this.header;
    const count = chunkCount(sizeBytes, chunkBytes);
    let [chunks, previous] = [0, -1];
    for (;;) {
      const what = `what begins at byte ${this.#source.position} of it`;
      const head = decodeHead(await this.#source.read(HEAD_BYTES), what);
      const { kind, length, index } = head;
      if (kind === "end") {
        if (length !== END_BYTES) throw invalidFile("its end is damaged");
        const payload = await this.#source.read(length);
        requirePlain(head, payload, "its end");
        const expected = Buffer.alloc(8);
        expected.writeBigUInt64LE(BigInt(chunks));
        if (!payload.equals(Buffer.concat([expected, image.digest(), this.#heads.digest()])))
          throw invalidFile("its parts are each whole, and are not those that it was written with");
        if (!(await this.#source.isAtEnd())) throw invalidFile("something follows its end");
        onEnd(payload);
        return;
      }
      if (kind !== "chunk" || index <= previous || index >= count)
        throw invalidFile(`${what} is no chunk that can stand there`);
      if (length > chunkLength(sizeBytes, chunkBytes, index)) throw invalidFile(`${what} is longer than a chunk`);
      const payload = await this.#source.read(length);
      this.#heads.update(encodeHead(head));
      image.add(index, head.id);
      [chunks, previous] = [chunks + 1, index];
      yield { head, payload, what };
    }
  }

  /** Tells where the file comes from that no more of it is wanted. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source.close();
  }
}

function requirePlain({ crc, id }: FrameHead, payload: Buffer, what: string): void {
  if (crc32(payload) !== crc || !sha256(payload).equals(id)) throw invalidFile(`${what} is damaged`);
}

function requireEnd(payload: Buffer | null): Buffer {
  if (payload === null) throw invalidFile("it has no end");
  return payload.subarray(8, 40);
}
