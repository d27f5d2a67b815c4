import { type ClientHttp2Stream, constants } from "node:http2";
import { Duplex } from "node:stream";

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = constants;

export interface LinkStreamOptions {
  /** The stream of the call; throws when there is no connection. */
  readonly open: () => ClientHttp2Stream;
  /** What the node answers instead of opening it. */
  readonly readError: (stream: ClientHttp2Stream) => Promise<Error>;
  /** Why a stream has ended that was not to end. */
  readonly lost: () => Error;
  /** How long the node may take to open it. */
  readonly deadlineMs: number;
}

/**
 * A connection on a node: each half ends by itself, and both go at the pace of their reader. What is written before the node has opened it waits. Its failure is an
 * error that destroys it.
 */
export class LinkStream extends Duplex {
  /** Resolves when the node has opened it; rejects with what destroyed it before. */
  readonly opened: Promise<void>;
  readonly #stream: ClientHttp2Stream | null;

  constructor({ open, readError, lost, deadlineMs }: LinkStreamOptions) {
    super({ allowHalfOpen: true });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.opened = promise;
    promise.catch(() => {});
    this.once("error", reject);
    this.once("close", () => reject(lost()));
    try {
      this.#stream = open();
    } catch (error) {
      this.#stream = null;
      this.destroy(error as Error);
      return;
    }
    const stream = this.#stream;
    let isRefused = false;
    const timer = setTimeout(() => this.destroy(lost()), deadlineMs).unref();
    stream.on("error", () => {});
    stream.once("close", () => {
      clearTimeout(timer);
      // A node that has sent everything, and reads no more, ends it properly.
      if (stream.rstCode === NGHTTP2_NO_ERROR && stream.readableEnded) this.#endQuietly();
      else if (!isRefused) this.destroy(lost());
    });
    stream.once("response", ({ ":status": status }) => {
      if (status !== 200) {
        isRefused = true;
        void readError(stream).then((error) => this.destroy(error));
        return;
      }
      clearTimeout(timer);
      resolve();
      stream.on("data", (bytes: Buffer) => {
        if (!this.push(bytes)) stream.pause();
      });
      stream.once("end", () => this.push(null));
    });
  }

  override _read(): void {
    this.#stream?.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    if (this.#stream === null || !this.#stream.writable) callback();
    else this.#stream.write(chunk, callback);
  }

  override _writev(chunks: readonly { readonly chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), "utf8", callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (this.#stream === null || !this.#stream.writable) callback();
    else this.#stream.end(callback);
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    const stream = this.#stream;
    const isOver = error === null && this.readableEnded && this.writableFinished;
    if (stream !== null && !stream.destroyed && !isOver) stream.close(NGHTTP2_CANCEL);
    callback(error);
  }

  /** When what has come is read, it is closed. */
  #endQuietly(): void {
    if (this.readableEnded) this.destroy();
    else this.once("end", () => this.destroy());
  }
}
