const BLOCK_BYTES = 4096;
const ZEROES = Buffer.alloc(BLOCK_BYTES);

/** Some bytes, and where they are. */
export interface DataRun {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The runs of blocks of 4 KiB that are not all zeros; `offset` is where `bytes` begins, a multiple of the block. */
export function* dataRuns(bytes: Uint8Array, offset: number): Generator<DataRun, void> {
  let start: number | null = null;
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    if (ZEROES.compare(block, 0, block.length, 0, block.length) !== 0) {
      start ??= at;
      continue;
    }
    if (start !== null) yield { offset: offset + start, bytes: bytes.subarray(start, at) };
    start = null;
  }
  if (start !== null) yield { offset: offset + start, bytes: bytes.subarray(start) };
}
