import { AppError, errnoError } from "../calls/errors.ts";
import type { Budget } from "../host/budget.ts";
import { startTimer } from "../host/timers.ts";
import { LargeString } from "./large-string.ts";
import { StreamQueue } from "./stream-queue.ts";

/** Most bytes and streams that wait without a method having asked for them. */
const MAX_UNCLAIMED_BYTES = 64 * 1024 * 1024;
const MAX_UNCLAIMED_STREAMS = 1_024;
/** Time that a reader gets to catch up before its stream goes to the disk; one that reads at all needs less. */
const CATCH_UP_MS = 100;
const FULL_DISK_RETRY_MS = 1_000;

type Chunk = Uint8Array<ArrayBuffer>;

/** A stream that has a reader. `abandon` stops the client and ends the reading, also when the reader holds the lock. */
export interface TakenStream {
  readonly readable: ReadableStream<Chunk>;
  abandon(): void;
}

interface Entry {
  readonly id: number;
  readonly queue: StreamQueue;
  /** Bytes that came while nobody had taken the stream. */
  unclaimedBytes: number;
  isTaken: boolean;
  isCancelled: boolean;
  /** Undefined while open; null after `end`; otherwise the failure. */
  ended: Error | null | undefined;
  /** Wakes the reader. */
  onData: (() => void) | null;
  /** Wakes the connection when the reader has read. */
  onRead: (() => void) | null;
}

/**
 * The streams that one client sends (protocol.md 3.5). They are announced before the call that reads them, so they wait here until
 * they are taken. The protocol has no flow control for single streams, and a connection that is not read from hears nothing else either: no
 * signal to the program that does not read its input, no ping. So what is not read goes to the disk (`StreamQueue`), and reading from
 * the client stops only when the disk is full.
 */
export class IncomingStreams {
  readonly #entries = new Map<number, Entry>();
  readonly #sendCancel: (streamId: number) => void;
  readonly #budget: Budget;
  #unclaimedBytes = 0;
  #unclaimedStreams = 0;

  /** `sendCancel` tells the client to stop. */
  constructor(budget: Budget, sendCancel: (streamId: number) => void) {
    this.#budget = budget;
    this.#sendCancel = sendCancel;
  }

  /** Announcing a stream twice changes nothing. */
  start(id: number): void {
    if (this.#entries.has(id)) return;
    if (this.#unclaimedStreams >= MAX_UNCLAIMED_STREAMS) {
      this.#sendCancel(id);
      return;
    }
    this.#unclaimedStreams += 1;
    this.#entries.set(id, {
      id,
      queue: new StreamQueue(this.#budget),
      unclaimedBytes: 0,
      isTaken: false,
      isCancelled: false,
      ended: undefined,
      onData: null,
      onRead: null,
    });
  }

  /**
   * Data for a stream that is not there (cancelled, or never announced) is discarded. Resolves when more may come; at once unless the stream is
   * not read.
   */
  enqueue(id: number, data: Chunk | LargeString): void | Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.ended !== undefined || data.length === 0) {
      if (data instanceof LargeString) data.release();
      return;
    }
    if (!entry.isTaken) {
      const isFirst = entry.unclaimedBytes === 0;
      entry.unclaimedBytes += data.length;
      this.#unclaimedBytes += data.length;
      // A single chunk may be a whole file (Python); only what comes on top of it counts against the limit.
      if (this.#unclaimedBytes > MAX_UNCLAIMED_BYTES && !isFirst) {
        if (data instanceof LargeString) data.release();
        this.#drop(entry);
        return;
      }
    }
    if (entry.queue.pushInMemory(data)) entry.onData?.();
    else if (!(data instanceof LargeString)) return this.#enqueueLate(entry, data);
  }

  end(id: number): void {
    this.#finish(id, null);
  }

  error(id: number, error: unknown): void {
    this.#finish(id, clientError(error));
  }

  /** Gives the stream to its reader. Throws `BadResource` when it is not there or has a reader. */
  take(id: number): TakenStream {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.isTaken) {
      throw errnoError("EBADF", `read stream ${id}: the client has not started it, or it is read already`);
    }
    this.#claim(entry);
    if (entry.ended !== undefined) this.#entries.delete(id);
    const abandon = () => {
      if (entry.ended === undefined) this.#sendCancel(id);
      this.#forget(entry);
    };
    const readable = new ReadableStream<Chunk>(
      { pull: (controller) => this.#pull(entry, controller), cancel: abandon },
      { highWaterMark: 0 },
    );
    return { readable, abandon };
  }

  /** The connection has ended: what is read now fails, behind what has arrived. */
  close(): void {
    for (const entry of this.#entries.values()) {
      this.#finish(entry.id, new AppError("ConnectionAborted", "The client is gone"));
      if (!entry.isTaken) this.#forget(entry);
      entry.onRead?.();
    }
    this.#entries.clear();
  }

  /** Lets the reader catch up, else uses the disk, else waits for the reader. */
  async #enqueueLate(entry: Entry, chunk: Chunk): Promise<void> {
    const { queue } = entry;
    if (entry.isTaken && !queue.isSpilling) {
      await this.#reading(entry, CATCH_UP_MS);
      if (queue.pushInMemory(chunk)) {
        entry.onData?.();
        return;
      }
    }
    while (!(await queue.pushToFile(chunk))) {
      if (!entry.isTaken) {
        this.#drop(entry);
        return;
      }
      await this.#reading(entry, FULL_DISK_RETRY_MS);
      if (queue.pushInMemory(chunk)) break;
    }
    entry.onData?.();
  }

  /** Resolves when the reader has taken something, or after a while. */
  async #reading(entry: Entry, timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const stopTimer = startTimer(timeoutMs, resolve);
      entry.onRead = () => {
        stopTimer();
        resolve();
      };
    });
    entry.onRead = null;
  }

  async #pull(entry: Entry, controller: ReadableStreamDefaultController<Chunk>): Promise<void> {
    try {
      for (;;) {
        const chunk = await entry.queue.shift();
        if (entry.isCancelled) return;
        if (chunk !== null) {
          entry.onRead?.();
          return controller.enqueue(chunk);
        }
        if (entry.ended !== undefined && entry.queue.isEmpty) break;
        await new Promise<void>((resolve) => {
          entry.onData = resolve;
        });
        entry.onData = null;
        if (entry.isCancelled) return;
      }
    } catch (error) {
      if (entry.isCancelled) return;
      if (entry.ended === undefined) this.#sendCancel(entry.id);
      this.#forget(entry);
      const isMalformed = error instanceof SyntaxError;
      return controller.error(isMalformed ? new AppError("Error", "The stream's data is not base64") : error);
    }
    if (entry.ended instanceof Error) controller.error(entry.ended);
    else controller.close();
  }

  #finish(id: number, ended: Error | null): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.ended !== undefined) return;
    entry.ended = ended;
    if (entry.isTaken) this.#entries.delete(id);
    entry.onData?.();
  }

  #claim(entry: Entry): void {
    if (entry.isTaken) return;
    entry.isTaken = true;
    this.#unclaimedBytes -= entry.unclaimedBytes;
    this.#unclaimedStreams -= 1;
  }

  #drop(entry: Entry): void {
    this.#sendCancel(entry.id);
    this.#forget(entry);
  }

  #forget(entry: Entry): void {
    // The client may use the id again only after it ended the stream, so the entry under it can only be this one.
    if (this.#entries.get(entry.id) === entry) this.#entries.delete(entry.id);
    this.#claim(entry);
    entry.isCancelled = true;
    entry.queue.close();
    entry.ended ??= null;
    entry.onData?.();
    entry.onRead?.();
  }
}

/** The client's reason: an error object from JavaScript, plain text from Python, or null. */
function clientError(error: unknown): Error {
  if (typeof error === "string") return new AppError("Error", error);
  if (typeof error !== "object" || error === null)
    return new AppError("Error", "The client ended the stream with an error");
  const { constructorName, message, code } = error as { constructorName?: unknown; message?: unknown; code?: unknown };
  return new AppError(
    typeof constructorName === "string" ? constructorName : "Error",
    typeof message === "string" ? message : "The client ended the stream with an error",
    typeof code === "string" ? code : undefined,
  );
}
