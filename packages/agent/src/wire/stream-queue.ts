import type { Budget } from "../host/budget.ts";
import { LargeString } from "./large-string.ts";
import { SpillFile } from "./spill-file.ts";

/** Bytes of one stream that wait in memory; more goes to a file. */
const MEMORY_BYTES = 4 * 1024 * 1024;
/** Length after which a new file is begun, so that what was read makes room on the disk. */
const FILE_BYTES = 64 * 1024 * 1024;
const READ_BYTES = 256 * 1024;
/** What a chunk costs beside its bytes, so that many small ones count as what they take. */
const CHUNK_OVERHEAD_BYTES = 256;

type Chunk = Uint8Array<ArrayBuffer>;

type Segment =
  | { readonly kind: "memory"; readonly chunk: Chunk }
  | { readonly kind: "large"; readonly text: LargeString; pieces: AsyncGenerator<Chunk> | null }
  | { readonly kind: "file"; readonly file: SpillFile; readBytes: number; isBeingWritten: boolean };

/**
 * What a client has sent of one stream and nobody has read yet: the beginning in memory, the rest in files. So a program may read its input
 * late, or never, and the agent still reads what the client sends behind it, such as a signal to that program.
 */
export class StreamQueue {
  readonly #budget: Budget;
  #segments: Segment[] = [];
  #memoryBytes = 0;
  #isClosed = false;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  get isEmpty(): boolean {
    return this.#segments.length === 0;
  }

  /** Whether the next chunk has to go to a file, behind what is there. */
  get isSpilling(): boolean {
    return this.#segments.at(-1)?.kind === "file";
  }

  /** Takes a chunk without a file; false when that is not possible. */
  pushInMemory(chunk: Chunk | LargeString): boolean {
    if (this.#isClosed) {
      if (chunk instanceof LargeString) chunk.release();
      return true;
    }
    if (chunk instanceof LargeString) {
      this.#segments.push({ kind: "large", text: chunk, pieces: null });
      return true;
    }
    if (this.isSpilling) return false;
    const cost = chunk.length + CHUNK_OVERHEAD_BYTES;
    if (this.#memoryBytes + cost > MEMORY_BYTES || !this.#budget.tryTake(cost)) return false;
    this.#memoryBytes += cost;
    this.#segments.push({ kind: "memory", chunk });
    return true;
  }

  /** Puts a chunk into a file; false when there is no room on the disk. */
  async pushToFile(chunk: Chunk): Promise<boolean> {
    let last = this.#segments.at(-1);
    if (last?.kind !== "file" || last.file.length >= FILE_BYTES) {
      const file = await SpillFile.open();
      if (file === null) return false;
      if (this.#isClosed) {
        file.close();
        return true;
      }
      last = { kind: "file", file, readBytes: 0, isBeingWritten: false };
      this.#segments.push(last);
    }
    last.isBeingWritten = true;
    const isWritten = await last.file.append(chunk);
    last.isBeingWritten = false;
    return isWritten || this.#isClosed;
  }

  /** The next bytes; null when there are none yet. One call at a time. Throws `SyntaxError` for what is not base64. */
  async shift(): Promise<Chunk | null> {
    for (let first = this.#segments[0]; first !== undefined; first = this.#segments[0]) {
      if (first.kind === "memory") {
        this.#segments.shift();
        this.#giveMemory(first.chunk.length + CHUNK_OVERHEAD_BYTES);
        return first.chunk;
      }
      if (first.kind === "large") {
        first.pieces ??= first.text.bytes();
        const { value, done } = await first.pieces.next();
        if (this.#isClosed) return null;
        if (done !== true) return value;
        first.text.release();
        this.#segments.shift();
        continue;
      }
      const { file, readBytes } = first;
      if (readBytes < file.length) {
        first.readBytes = Math.min(file.length, readBytes + READ_BYTES);
        return await file.read(readBytes, first.readBytes);
      }
      if (first.isBeingWritten) return null;
      file.close();
      this.#segments.shift();
    }
    return null;
  }

  close(): void {
    this.#isClosed = true;
    for (const segment of this.#segments.splice(0)) {
      if (segment.kind === "large") segment.text.release();
      else if (segment.kind === "file") segment.file.close();
    }
    this.#giveMemory(this.#memoryBytes);
  }

  #giveMemory(bytes: number): void {
    this.#memoryBytes -= bytes;
    this.#budget.give(bytes);
  }
}
