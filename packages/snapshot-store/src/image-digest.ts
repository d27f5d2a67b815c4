import { createHash } from "node:crypto";

const DOMAIN = "caisson image 1\n";

/**
 * The identity of a whole image: SHA-256 over its size and over the index and SHA-256 of every chunk that is not all zeros. It depends on the bytes of the
 * image alone, for one size of chunks, and costs nothing for holes, unlike a hash of all bytes.
 */
export class ImageDigest {
  readonly #hash = createHash("sha256");

  constructor(sizeBytes: number, chunkBytes: number) {
    const size = Buffer.alloc(12);
    size.writeBigUInt64LE(BigInt(sizeBytes), 0);
    size.writeUInt32LE(chunkBytes, 8);
    this.#hash.update(DOMAIN).update(size);
  }

  /** Chunks come in order of their index. */
  add(index: number, id: Uint8Array): void {
    const position = Buffer.alloc(8);
    position.writeBigUInt64LE(BigInt(index), 0);
    this.#hash.update(position).update(id);
  }

  /** Once, when all chunks were added. */
  digest(): Buffer {
    return this.#hash.digest();
  }
}
