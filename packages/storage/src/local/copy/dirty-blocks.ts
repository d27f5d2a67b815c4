export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export const BLOCK_BYTES = 4096;
const BITS = 32;
/** So that looking for dirty blocks costs nothing for the parts of a large image that have none. */
const WORDS_PER_GROUP = 1024;

/** A bit for each 4 KiB block of an image: which were written to. */
export class DirtyBlocks {
  readonly #sizeBytes: number;
  readonly #words: Uint32Array;
  readonly #groups = new Set<number>();

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#words = new Uint32Array(Math.ceil(sizeBytes / BLOCK_BYTES / BITS));
  }

  /** Marks every block that the range touches. What lies behind the end of the image counts as nothing. */
  add(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#sizeBytes);
    for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < end; block += 1) {
      const word = Math.floor(block / BITS);
      this.#words[word] = ((this.#words[word] ?? 0) | (1 << (block % BITS))) >>> 0;
      this.#groups.add(Math.floor(word / WORDS_PER_GROUP));
    }
  }

  /** The marked blocks as ranges in order, adjacent ones as one; none is marked any more. */
  take(): readonly ByteRange[] {
    const ranges: ByteRange[] = [];
    let start: number | null = null;
    let end = 0;
    const close = (): void => {
      if (start === null) return;
      const offset = start * BLOCK_BYTES;
      ranges.push({ offset, length: Math.min(end * BLOCK_BYTES, this.#sizeBytes) - offset });
      start = null;
    };
    for (const group of [...this.#groups].toSorted((a, b) => a - b)) {
      const firstWord = group * WORDS_PER_GROUP;
      const words = this.#words.subarray(firstWord, firstWord + WORDS_PER_GROUP);
      for (const [index, word] of words.entries()) {
        if (word === 0) continue;
        for (let bit = 0; bit < BITS; bit += 1) {
          if (((word >>> bit) & 1) === 0) continue;
          const block = (firstWord + index) * BITS + bit;
          if (start === null || block !== end) {
            close();
            start = block;
          }
          end = block + 1;
        }
      }
      words.fill(0);
    }
    this.#groups.clear();
    close();
    return ranges;
  }
}
