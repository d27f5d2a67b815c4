import { chunkMessageParts } from "@caisson/protocol/chunk-message";
import { type ErrorObject, NOTIFICATIONS, STREAM_CHUNK_BYTES } from "@caisson/protocol/rpc";
import { toErrorObject } from "../calls/errors.ts";

/** Where the messages of streams go. */
export interface MessageSink {
  /** Queues a message for the client; resolves when the kernel has it, see `FrameWriter.send`. */
  send(text: string, isAscii?: boolean): Promise<boolean>;
  /** Resolves when at most so many characters wait. */
  room(characters: number): Promise<void>;
  /** Resolves when the client has read what was queued before, see `WebSocketPeer.reached`. */
  reached(): Promise<void>;
}

/** Chunks of one stream that may wait for the kernel at a time. Few, so that a slow client bounds memory; more than one, for speed. */
const MAX_UNSENT_CHUNKS = 4;
/** Characters of all messages of the connection that may wait before a stream adds to them. */
const MAX_WAITING_CHARACTERS = 1024 * 1024;

/**
 * Ids are unique across all sandboxes, because the JavaScript client keeps one table per process (protocol.md rule 1): each agent counts
 * from a random number below 2^52, which leaves as many again until numbers stop being exact.
 */
let nextStreamId = Math.floor(Math.random() * 2 ** 52);

/**
 * A stream to the client (protocol.md 3.5). `start` comes before data, empty chunks are never sent, and after `end`, `error` or the
 * client's cancel nothing more is sent.
 */
export class OutgoingStream {
  readonly id: number;
  readonly #sink: MessageSink;
  readonly #onDone: () => void;
  readonly #onCancel: (() => void)[] = [];
  #controller: AbortController | null = null;
  readonly #unsent: Promise<boolean>[] = [];
  #isDone = false;
  #isCancelled = false;

  constructor(id: number, sink: MessageSink, onDone: () => void) {
    this.id = id;
    this.#sink = sink;
    this.#onDone = onDone;
  }

  /** Aborts when the client cancelled the stream or the connection ended. Made on first use: loading it takes Deno milliseconds. */
  get signal(): AbortSignal {
    if (this.#controller === null) {
      const controller = new AbortController();
      this.#controller = controller;
      this.onCancel(() => controller.abort());
    }
    return this.#controller.signal;
  }

  /** Calls back when the client cancels the stream or the connection ends, at once when that has happened. */
  onCancel(callback: () => void): void {
    if (this.#isCancelled) callback();
    else this.#onCancel.push(callback);
  }

  /** True when nothing more can be sent. */
  get isDone(): boolean {
    return this.#isDone;
  }

  start(): void {
    this.#notify(NOTIFICATIONS.streamStart, "");
  }

  /** Queues a chunk without waiting; chunks above 64 KiB are split. */
  push(chunk: Uint8Array): void {
    const [before, after] = chunkMessageParts(this.id);
    for (let offset = 0; offset < chunk.length && !this.#isDone; offset += STREAM_CHUNK_BYTES) {
      const data = chunk.subarray(offset, offset + STREAM_CHUNK_BYTES).toBase64();
      this.#unsent.push(this.#sink.send(`${before}${data}${after}`, true));
    }
  }

  /** Queues a chunk and waits until few enough wait for the kernel. */
  async write(chunk: Uint8Array): Promise<void> {
    await this.#sink.room(MAX_WAITING_CHARACTERS);
    this.push(chunk);
    while (this.#unsent.length >= MAX_UNSENT_CHUNKS) await this.#unsent.shift();
  }

  /** Resolves when the client has read what was queued, or is gone. */
  reached(): Promise<void> {
    return this.#isDone ? Promise.resolve() : this.#sink.reached();
  }

  end(): void {
    if (this.#isDone) return;
    this.#notify(NOTIFICATIONS.streamEnd, "");
    this.#finish();
  }

  error(error: unknown): void {
    if (this.#isDone) return;
    const object: ErrorObject = toErrorObject(error);
    this.#notify(NOTIFICATIONS.streamError, `,"error":${JSON.stringify(object)}`, false);
    this.#finish();
  }

  /** The client wants no more, or is gone: nothing is sent for this stream from now on. */
  cancel(): void {
    if (this.#isDone) return;
    this.#finish();
    this.#isCancelled = true;
    for (const callback of this.#onCancel.splice(0)) callback();
  }

  #notify(method: string, members: string, isAscii = true): Promise<boolean> {
    const params = `{"streamId":${this.id}${members}}`;
    return this.#isDone
      ? Promise.resolve(false)
      : this.#sink.send(`{"jsonrpc":"2.0","method":"${method}","params":${params}}`, isAscii);
  }

  #finish(): void {
    this.#isDone = true;
    this.#onDone();
  }
}

/** The streams that one connection sends. */
export class OutgoingStreams {
  readonly #sink: MessageSink;
  readonly #streams = new Map<number, OutgoingStream>();
  #isClosed = false;

  constructor(sink: MessageSink) {
    this.#sink = sink;
  }

  open(): OutgoingStream {
    const id = nextStreamId;
    nextStreamId += 1;
    const stream = new OutgoingStream(id, this.#sink, () => this.#streams.delete(id));
    this.#streams.set(id, stream);
    if (this.#isClosed) stream.cancel();
    return stream;
  }

  /** The client's `cancel`. One that crosses our `end` finds nothing, which is right. */
  cancel(id: number): void {
    this.#streams.get(id)?.cancel();
  }

  /** The connection has ended. */
  close(): void {
    this.#isClosed = true;
    for (const stream of [...this.#streams.values()]) stream.cancel();
  }
}
