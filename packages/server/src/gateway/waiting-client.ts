import type { Duplex } from "node:stream";

/** What a client may send before it got its answer. A WebSocket client sends nothing. */
const MAX_EARLY_BYTES = 64 * 1024;

/** The client closed its connection, or its half of it, before it got an answer. */
export class ClientLeftError extends Error {
  constructor() {
    super("The client left before its sandbox was ready");
    this.name = "ClientLeftError";
  }
}

/**
 * A client that waits for its upgrade. Its connection is read meanwhile, since the system reports that a peer has left only to those who read;
 * what it sends is kept.
 */
export class WaitingClient {
  readonly #socket: Duplex;
  readonly #left = new AbortController();
  readonly #early: Buffer[];
  #earlyBytes: number;

  constructor(socket: Duplex, head: Buffer) {
    this.#socket = socket;
    this.#early = [head];
    this.#earlyBytes = head.length;
    socket.on("data", this.#receive);
    for (const event of ["end", "close"]) socket.on(event, this.#leave);
    if (socket.destroyed) this.#leave();
  }

  /** Aborted with a `ClientLeftError` when the client has left. */
  get signal(): AbortSignal {
    return this.#left.signal;
  }

  /** Ends the watch and returns what the client has sent. Throws a `ClientLeftError` when it has left. */
  take(): Buffer {
    this.#socket.off("data", this.#receive);
    for (const event of ["end", "close"]) this.#socket.off(event, this.#leave);
    this.#socket.pause();
    // A connection that was reset says so a moment before it is closed.
    if (this.#socket.destroyed) this.#leave();
    this.#left.signal.throwIfAborted();
    return Buffer.concat(this.#early);
  }

  readonly #receive = (chunk: Buffer): void => {
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length;
    // Unread, more would hide that it leaves; and it is no WebSocket client.
    if (this.#earlyBytes > MAX_EARLY_BYTES) this.#socket.destroy();
  };

  readonly #leave = (): void => {
    this.#left.abort(new ClientLeftError());
  };
}
