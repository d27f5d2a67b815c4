import { STREAM_CHUNK_BYTES } from "@caisson/protocol/rpc";
import type { OutgoingStream } from "./outgoing-streams.ts";

/** What a client surely reads at once: a stream up to this size, as base64 in messages, may end together with its data. */
export const ONE_READ_BYTES = 16 * 1024;
const FIRST_BLOCK_BYTES = 4 * 1024;
/** What `discard` returns at most. */
const TAIL_BYTES = 2 * 1024;
/** What all streams together hold; above it a stream that has something already waits for its release. */
const MAX_HELD_IN_ALL_BYTES = 32 * 1024 * 1024;

let heldInAllBytes = 0;

interface Block {
  readonly bytes: Uint8Array;
  used: number;
}

/**
 * An outgoing stream that keeps what is written until it is released, because clients lose or mishandle what comes too early (protocol.md
 * rules 4 and 5). Release sends `start`, what is held, and the end if it was reached; a short stream leaves in one turn and so in one write.
 */
export class HeldStream {
  readonly stream: OutgoingStream;
  readonly #maxHeldBytes: number;
  readonly #onFull: () => void;
  readonly #released = Promise.withResolvers<void>();
  #held: Block[] = [];
  #heldBytes = 0;
  #isReleased = false;
  #finish: (() => void) | null = null;

  /** `onFull` is called when more than `maxHeldBytes` are held; until release, writing then waits. */
  constructor(stream: OutgoingStream, maxHeldBytes: number, onFull: () => void = () => {}) {
    this.stream = stream;
    this.#maxHeldBytes = maxHeldBytes;
    this.#onFull = onFull;
    // What is held for a stream that the client cancelled, or whose connection ended, serves nobody.
    stream.onCancel(() => this.release());
  }

  /** Bytes that wait for the release; zero when they were sent. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Resolves when what was held at the release was sent. */
  get released(): Promise<void> {
    return this.#released.promise;
  }

  get isReleased(): boolean {
    return this.#isReleased;
  }

  /** Holds or sends one chunk as a message of its own. The chunk is the stream's from now on. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.#isReleased) return await this.#pass(chunk);
    if (chunk.length === 0) return;
    this.#held.push({ bytes: chunk, used: chunk.length });
    await this.#account(chunk.length);
  }

  /** Like `write`, for bytes without boundaries: small pieces are put together, and the chunk stays the caller's. */
  async writeBytes(chunk: Uint8Array): Promise<void> {
    if (this.#isReleased) return await this.#pass(chunk);
    if (chunk.length === 0) return;
    const last = this.#held.at(-1);
    if (last !== undefined && last.used + chunk.length <= last.bytes.length) {
      last.bytes.set(chunk, last.used);
      last.used += chunk.length;
    } else {
      const bytes = new Uint8Array(Math.max(chunk.length, last === undefined ? FIRST_BLOCK_BYTES : STREAM_CHUNK_BYTES));
      bytes.set(chunk);
      this.#held.push({ bytes, used: chunk.length });
    }
    await this.#account(chunk.length);
  }

  end(): void {
    this.#finishWith(() => this.stream.end());
  }

  /**
   * Ends a stream that the client does not read at once, when the client has had the time to cancel it. A consumer that stops early does that,
   * and an `end` that crosses the cancel on its way would end the JavaScript client's process (protocol.md rule 3). The first answer says that
   * the client has the last data; what it sends because of them leaves before the second.
   */
  async endApart(): Promise<void> {
    await this.released;
    await this.stream.reached();
    await this.stream.reached();
    this.end();
  }

  /** Drops the stream, of which the client knows nothing yet, and returns the end of what was held, as text. */
  discard(): string {
    const text = new TextDecoder().decode(this.#heldEnd());
    this.stream.cancel();
    return text;
  }

  #heldEnd(): Uint8Array {
    const last = this.#held.at(-1);
    return last === undefined ? new Uint8Array() : last.bytes.subarray(Math.max(0, last.used - TAIL_BYTES), last.used);
  }

  error(error: unknown): void {
    this.#finishWith(() => this.stream.error(error));
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.stream.start();
    if (this.#heldBytes > STREAM_CHUNK_BYTES) {
      void this.#flush();
      return;
    }
    for (const block of this.#held) this.stream.push(block.bytes.subarray(0, block.used));
    this.#settle();
  }

  /** Sends much no faster than the client takes it. */
  async #flush(): Promise<void> {
    for (const block of this.#held) await this.stream.write(block.bytes.subarray(0, block.used));
    this.#settle();
  }

  #settle(): void {
    this.#held = [];
    heldInAllBytes -= this.#heldBytes;
    this.#heldBytes = 0;
    this.#finish?.();
    this.#released.resolve();
  }

  async #pass(chunk: Uint8Array): Promise<void> {
    await this.#released.promise;
    await this.stream.write(chunk);
  }

  async #account(bytes: number): Promise<void> {
    this.#heldBytes += bytes;
    heldInAllBytes += bytes;
    if (this.#heldBytes > this.#maxHeldBytes) this.#onFull();
    else if (heldInAllBytes <= MAX_HELD_IN_ALL_BYTES) return;
    await this.#released.promise;
  }

  #finishWith(finish: () => void): void {
    if (this.#isReleased && this.#held.length === 0) finish();
    else this.#finish ??= finish;
  }
}
