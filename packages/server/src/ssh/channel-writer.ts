import type { Socket } from "node:net";
import type { ServerChannel } from "ssh2";
import { UNSENT_BYTES } from "./limits.ts";

/** What the library keeps of a write that waits for the client's window. */
interface Leftovers {
  _chunk?: unknown;
  _chunkcb?: unknown;
  _chunkErr?: unknown;
  _chunkcbErr?: unknown;
}

/**
 * Writes to a client's channel, one write at a time, and waits until the client's window and its connection have taken it. Without the second wait
 * a client that grants a large window and does not read would have this server keep everything.
 *
 * After each write the library's own leftovers are removed. ssh2 1.17 does not do so itself: when output had to wait for the window, a later wait of
 * the error output, or the other way round, sends the old piece once more and never the new one (`CHANNEL_WINDOW_ADJUST` in its server.js).
 */
export class ChannelWriter {
  readonly #channel: ServerChannel;
  readonly #socket: Socket;
  #isClosed = false;
  #wake: () => void = () => {};
  readonly #goOn = (): void => this.#wake();

  constructor(channel: ServerChannel, socket: Socket) {
    this.#channel = channel;
    this.#socket = socket;
    channel.once("close", this.close);
    socket.once("close", this.close);
    socket.on("drain", this.#goOn);
  }

  /** The channel takes no more: what waits goes on. */
  readonly close = (): void => {
    this.#isClosed = true;
    this.#socket.off("close", this.close).off("drain", this.#goOn);
    this.#goOn();
  };

  /** Resolves also when the client is gone. */
  async write(bytes: Uint8Array, isError = false): Promise<void> {
    if (this.#isClosed) return;
    let isWritten = false;
    const stream = isError ? this.#channel.stderr : this.#channel;
    stream.write(bytes, () => {
      isWritten = true;
      this.#forgetLeftovers();
      this.#wake();
    });
    while (!this.#isClosed && (!isWritten || this.#socket.writableLength > UNSENT_BYTES))
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
  }

  #forgetLeftovers(): void {
    const leftovers = this.#channel as unknown as Leftovers;
    leftovers._chunk = undefined;
    leftovers._chunkcb = undefined;
    leftovers._chunkErr = undefined;
    leftovers._chunkcbErr = undefined;
  }
}
