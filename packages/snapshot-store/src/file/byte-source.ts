import { invalidFile } from "../invalid-file.ts";

/** Reads exact numbers of bytes from pieces of any size. It keeps at most what was asked for and one piece. */
export class ByteSource {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);
  /** How many bytes were read so far. */
  position = 0;

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** The next `length` bytes. Throws `INVALID_SNAPSHOT_FILE` when the file ends before. */
  async read(length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    while (filled < length) {
      if (this.#rest.length === 0 && !(await this.#advance())) {
        throw invalidFile(`it ends after ${this.position + filled} bytes, in the middle: it was cut`);
      }
      const part = this.#rest.subarray(0, length - filled);
      bytes.set(part, filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    this.position += length;
    return bytes;
  }

  /** Whether there is nothing more; waits until that is known. */
  async isAtEnd(): Promise<boolean> {
    return this.#rest.length === 0 && !(await this.#advance());
  }

  /** Tells where the pieces come from that no more are wanted. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  async #advance(): Promise<boolean> {
    for (;;) {
      const next = await this.#pieces.next();
      if (next.done === true) return false;
      if (next.value.length === 0) continue;
      this.#rest = next.value;
      return true;
    }
  }
}
