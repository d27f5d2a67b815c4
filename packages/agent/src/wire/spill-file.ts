const DIRECTORY = "/tmp";
const MIB = 1024 * 1024;
/** What all files together may hold. More than any one input that the clients have been seen to send, less than the scratch disk. */
const MAX_BYTES = 4 * 1024 * MIB;

let spilledBytes = 0;

/**
 * A file without a name that keeps what memory should not: it is gone when it is closed, or when the agent ends. Appending and reading have a
 * position each and may go on at the same time.
 */
export class SpillFile {
  readonly #writer: Deno.FsFile;
  readonly #reader: Deno.FsFile;
  #length = 0;
  #position = 0;
  #isClosed = false;

  private constructor(writer: Deno.FsFile, reader: Deno.FsFile) {
    this.#writer = writer;
    this.#reader = reader;
  }

  /** Null when the disk cannot take it; then memory must do. */
  static async open(): Promise<SpillFile | null> {
    let path: string | undefined;
    try {
      path = await Deno.makeTempFile({ dir: DIRECTORY, prefix: ".caisson-" });
      const writer = await Deno.open(path, { write: true });
      try {
        return new SpillFile(writer, await Deno.open(path, { read: true }));
      } catch (error) {
        writer.close();
        throw error;
      }
    } catch {
      return null;
    } finally {
      if (path !== undefined) await Deno.remove(path).catch(() => undefined);
    }
  }

  get length(): number {
    return this.#length;
  }

  /** False when the disk, or what all files may hold together, is full; the file then ends where it did before. */
  async append(bytes: Uint8Array): Promise<boolean> {
    if (spilledBytes + bytes.length > MAX_BYTES || this.#isClosed) return false;
    spilledBytes += bytes.length;
    try {
      for (let written = 0; written < bytes.length; ) written += await this.#writer.write(bytes.subarray(written));
    } catch {
      spilledBytes -= bytes.length;
      if (!this.#isClosed) await this.#writer.seek(this.#length, Deno.SeekMode.Start);
      return false;
    }
    if (this.#isClosed) spilledBytes -= bytes.length;
    else this.#length += bytes.length;
    return true;
  }

  /** The bytes from `start` to `end`, which must have been appended. */
  async read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(end - start);
    if (this.#position !== start) await this.#reader.seek(start, Deno.SeekMode.Start);
    this.#position = end;
    for (let filled = 0; filled < bytes.length; ) {
      const count = await this.#reader.read(bytes.subarray(filled));
      if (count === null) throw new Error(`Cannot read back what was spilled: it ends at ${start + filled}`);
      filled += count;
    }
    return bytes;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    spilledBytes -= this.#length;
    this.#writer.close();
    this.#reader.close();
  }
}
