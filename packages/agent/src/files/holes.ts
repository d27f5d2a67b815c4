/** The block of nearly all file systems: no hole is smaller. */
const BLOCK_BYTES = 4096;
/** The most zeros that one read passes over, so that a client hears of a large hole from time to time and can end it. */
const ZEROS_MAX_BYTES = 256 * 1024 * 1024;

/** What a read that passes over zeros found: so many zeros, and what comes after them, if that was read too. */
export interface SparseData {
  readonly zeros: number;
  /** Null: the file ends. */
  readonly data: Uint8Array | null;
}

/** Reads on, over whatever is zero, to something else or to the end of the file. Holes of a file read fast, as zeros. */
export async function readSparsely(
  file: Deno.FsFile,
  buffer: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<SparseData> {
  for (let zeros = 0; ; ) {
    const size = await file.read(buffer);
    if (size === null) return { zeros, data: zeros === 0 ? null : buffer.subarray(0, 0) };
    const data = buffer.subarray(0, size);
    if (!isZero(data)) return { zeros, data };
    zeros += size;
    if (zeros >= ZEROS_MAX_BYTES || signal.aborted) return { zeros, data: buffer.subarray(0, 0) };
  }
}

/** Writes all but the blocks of zeros, over which the position moves. */
export async function writeSparsely(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  const isHole = (start: number): boolean => isZero(bytes.subarray(start, start + BLOCK_BYTES));
  for (let start = 0; start < bytes.length; ) {
    const skips = isHole(start);
    let end = start;
    while (end < bytes.length && isHole(end) === skips) end += BLOCK_BYTES;
    const part = bytes.subarray(start, end);
    if (skips) await file.seek(part.length, Deno.SeekMode.Current);
    else for (let written = 0; written < part.length; ) written += await file.write(part.subarray(written));
    start = end;
  }
}

function isZero(bytes: Uint8Array): boolean {
  const start = bytes.byteOffset % 4 === 0 ? 0 : Math.min(4 - (bytes.byteOffset % 4), bytes.length);
  const count = Math.floor((bytes.length - start) / 4);
  for (let index = 0; index < start; index += 1) if (bytes[index] !== 0) return false;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + start, count);
  for (let index = 0; index < count; index += 1) if (words[index] !== 0) return false;
  for (let index = start + count * 4; index < bytes.length; index += 1) if (bytes[index] !== 0) return false;
  return true;
}
