import type { Bytes } from "./bytes.ts";

/** What a stream tells its connection. */
export interface IncomingStreamOwner {
  /** The amount of data that waits for an active reader changed. */
  onFlowChange(): void;
  /** The reader wants no more. */
  onCancel(stream: IncomingStream, reason: unknown): void;
}

/**
 * Data on its way from the sandbox to a reader. Chunks wait here until they are read; what arrived before an error or before the end
 * of the connection can still be read.
 */
export class IncomingStream {
  readonly id: number;
  readonly readable: ReadableStream<Bytes>;
  /** Resolves when nothing more will arrive: at the end, at an error or when the reader cancelled. */
  readonly done: Promise<void>;
  /** True once somebody was given the stream. */
  isClaimed = false;
  readonly #owner: IncomingStreamOwner;
  #queue: Bytes[] = [];
  #bufferedBytes = 0;
  #hasReader = false;
  #end: { readonly error?: unknown } | null = null;
  #wakeReader: (() => void) | null = null;
  #controller: ReadableByteStreamController | null = null;
  #resolveDone: () => void = () => undefined;

  constructor(id: number, owner: IncomingStreamOwner) {
    this.id = id;
    this.#owner = owner;
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
    // Every chunk that is put into the stream owns its memory, which the platform's type does not say.
    this.readable = new ReadableStream({
      type: "bytes",
      start: (controller) => {
        this.#controller = controller;
      },
      pull: () => this.#pull(),
      cancel: (reason) => {
        this.#queue = [];
        this.#bufferedBytes = 0;
        this.#resolveDone();
        owner.onCancel(this, reason);
      },
    }) as ReadableStream<Bytes>;
  }

  get hasEnded(): boolean {
    return this.#end !== null;
  }

  /** Bytes that wait for a reader that has begun to read. Streams that nobody reads count nothing: see `Connection`. */
  get pressureBytes(): number {
    return this.#hasReader ? this.#bufferedBytes : 0;
  }

  push(chunk: Bytes): void {
    if (chunk.byteLength === 0) return;
    this.#queue.push(chunk);
    this.#bufferedBytes += chunk.byteLength;
    this.#wake();
  }

  /** Ends the stream, with an error if one is given, once everything that was pushed has been read. */
  end(outcome: { readonly error?: unknown } = {}): void {
    if (this.#end !== null) return;
    this.#end = outcome;
    this.#resolveDone();
    if (this.#wakeReader !== null) this.#wake();
    else if (this.#queue.length === 0) this.#finish();
  }

  #wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = null;
  }

  async #pull(): Promise<void> {
    this.#hasReader = true;
    if (this.#queue.length === 0 && this.#end === null) {
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
    const chunk = this.#queue.shift();
    if (chunk !== undefined) {
      this.#bufferedBytes -= chunk.byteLength;
      this.#controller?.enqueue(chunk);
      this.#owner.onFlowChange();
    }
    if (this.#queue.length === 0 && this.#end !== null) this.#finish();
  }

  #finish(): void {
    const controller = this.#controller;
    if (controller === null) return;
    this.#controller = null;
    if (this.#end !== null && "error" in this.#end) {
      controller.error(this.#end.error);
      return;
    }
    controller.close();
    // A reader that brought its own buffer is answered only by an explicit empty response.
    controller.byobRequest?.respond(0);
  }
}
