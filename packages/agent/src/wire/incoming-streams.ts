import { AppError, errnoError } from "../calls/errors.ts";

/**
 * Unread bytes of one stream above which reading from the client pauses, and below which it goes on. Generous, because a signal to a process
 * that does not read waits behind its input.
 */
const PAUSE_BYTES = 32 * 1024 * 1024;
const RESUME_BYTES = PAUSE_BYTES / 2;
/** Most bytes and streams that wait without a method having asked for them. */
const MAX_UNCLAIMED_BYTES = 64 * 1024 * 1024;
const MAX_UNCLAIMED_STREAMS = 1_024;

type Chunk = Uint8Array<ArrayBuffer>;

/** A stream that has a reader. `abandon` stops the client and ends the reading, also when the reader holds the lock. */
export interface TakenStream {
  readonly readable: ReadableStream<Chunk>;
  abandon(): void;
}

interface Entry {
  readonly id: number;
  readonly chunks: Chunk[];
  unreadBytes: number;
  isTaken: boolean;
  isCancelled: boolean;
  /** Undefined while open; null after `end`; otherwise the failure. */
  ended: Error | null | undefined;
  /** Wakes the reader. */
  wake: (() => void) | null;
}

/**
 * The streams that one client sends (protocol.md 3.5). They are announced before the call that reads them, so they wait here until
 * they are taken. Reading from the client pauses while a stream that somebody reads has too much unread.
 */
export class IncomingStreams {
  readonly #entries = new Map<number, Entry>();
  readonly #sendCancel: (streamId: number) => void;
  readonly #full = new Set<Entry>();
  #resume: (() => void) | null = null;
  #unclaimedBytes = 0;

  /** `sendCancel` tells the client to stop. */
  constructor(sendCancel: (streamId: number) => void) {
    this.#sendCancel = sendCancel;
  }

  /** Announcing a stream twice changes nothing. */
  start(id: number): void {
    if (this.#entries.has(id)) return;
    const unclaimed = [...this.#entries.values()].filter((entry) => !entry.isTaken).length;
    if (unclaimed >= MAX_UNCLAIMED_STREAMS) {
      this.#sendCancel(id);
      return;
    }
    this.#entries.set(id, {
      id,
      chunks: [],
      unreadBytes: 0,
      isTaken: false,
      isCancelled: false,
      ended: undefined,
      wake: null,
    });
  }

  /** Data for a stream that is not there (cancelled, or never announced) is discarded. */
  enqueue(id: number, chunk: Chunk): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.ended !== undefined || chunk.length === 0) return;
    entry.chunks.push(chunk);
    entry.unreadBytes += chunk.length;
    if (entry.isTaken) {
      if (entry.unreadBytes > PAUSE_BYTES) this.#full.add(entry);
      entry.wake?.();
      return;
    }
    this.#unclaimedBytes += chunk.length;
    // A single chunk may be a whole file (Python); only what comes on top of it counts against the limit.
    if (this.#unclaimedBytes > MAX_UNCLAIMED_BYTES && entry.chunks.length > 1) this.#drop(entry);
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
    entry.isTaken = true;
    this.#unclaimedBytes -= entry.unreadBytes;
    if (entry.unreadBytes > PAUSE_BYTES) this.#full.add(entry);
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

  /** Resolves when no stream has too much unread. */
  async writable(): Promise<void> {
    while (this.#full.size > 0) {
      await new Promise<void>((resolve) => {
        this.#resume = resolve;
      });
    }
  }

  /** The connection has ended: what is read now fails. */
  close(): void {
    for (const entry of this.#entries.values())
      this.#finish(entry.id, new AppError("ConnectionAborted", "The client is gone"));
    this.#entries.clear();
    this.#full.clear();
    this.#resume?.();
  }

  async #pull(entry: Entry, controller: ReadableStreamDefaultController<Chunk>): Promise<void> {
    while (entry.chunks.length === 0 && entry.ended === undefined) {
      await new Promise<void>((resolve) => {
        entry.wake = resolve;
      });
      entry.wake = null;
    }
    if (entry.isCancelled) return;
    const chunk = entry.chunks.shift();
    if (chunk !== undefined) {
      entry.unreadBytes -= chunk.length;
      if (entry.unreadBytes <= RESUME_BYTES) this.#unblock(entry);
      controller.enqueue(chunk);
    } else if (entry.ended instanceof Error) {
      controller.error(entry.ended);
    } else {
      controller.close();
    }
  }

  #finish(id: number, ended: Error | null): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.ended !== undefined) return;
    entry.ended = ended;
    if (entry.isTaken) this.#entries.delete(id);
    entry.wake?.();
  }

  #drop(entry: Entry): void {
    this.#unclaimedBytes -= entry.unreadBytes;
    this.#sendCancel(entry.id);
    this.#forget(entry);
  }

  #forget(entry: Entry): void {
    // The client may use the id again only after it ended the stream, so the entry under it can only be this one.
    if (this.#entries.get(entry.id) === entry) this.#entries.delete(entry.id);
    entry.isCancelled = true;
    entry.chunks.length = 0;
    entry.ended ??= null;
    entry.wake?.();
    this.#unblock(entry);
  }

  #unblock(entry: Entry): void {
    if (this.#full.delete(entry) && this.#full.size === 0) this.#resume?.();
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
