import {
  encodeCount,
  encodeFrame,
  FRAME,
  type Frame,
  FrameReader,
  type SessionEnd,
  WINDOW_BYTES,
} from "@caisson/protocol/session-frames";
import type { ByteStream } from "../wire/websocket.ts";

const READ_BYTES = 64 * 1024;

/** The server's connection for one SSH session. Output waits until the server takes it. */
export class SessionLink {
  readonly #stream: ByteStream;
  #lastWrite: Promise<void> = Promise.resolve();
  #outputUnderWay = 0;
  #isClosed = false;
  #waiting: (() => void)[] = [];

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** What the server says, until it ends the connection or says what is no frame. `first`: bytes that were read already. */
  async *frames(first: Uint8Array): AsyncGenerator<Frame> {
    const reader = new FrameReader();
    yield* reader.read(first);
    const buffer = new Uint8Array(READ_BYTES);
    for (let count = await this.#read(buffer); count !== null; count = await this.#read(buffer))
      yield* reader.read(buffer.subarray(0, count));
  }

  async output(bytes: Uint8Array): Promise<void> {
    await this.#roomForOutput();
    this.#outputUnderWay += bytes.length;
    await this.#write(encodeFrame(FRAME.output, bytes));
  }

  async errorOutput(bytes: Uint8Array): Promise<void> {
    await this.#roomForOutput();
    this.#outputUnderWay += bytes.length;
    await this.#write(encodeFrame(FRAME.errorOutput, bytes));
  }

  /** The server has taken that much of the output. */
  outputTaken(count: number): void {
    this.#outputUnderWay -= count;
    this.#wake();
  }

  /** Nothing is taken any more: whoever waits to send fails. */
  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  /** Has the server send that much more. */
  inputTaken(count: number): Promise<void> {
    return this.#write(encodeFrame(FRAME.inputTaken, encodeCount(count)));
  }

  end(end: SessionEnd): Promise<void> {
    return this.#write(encodeFrame(FRAME.end, new TextEncoder().encode(JSON.stringify(end))));
  }

  /** A connection that broke has ended. */
  async #read(buffer: Uint8Array<ArrayBuffer>): Promise<number | null> {
    try {
      return await this.#stream.read(buffer);
    } catch {
      return null;
    }
  }

  async #roomForOutput(): Promise<void> {
    while (!this.#isClosed && this.#outputUnderWay >= WINDOW_BYTES)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#isClosed) throw new Deno.errors.BrokenPipe("The server has closed the session");
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const writing = this.#lastWrite.then(async () => {
      for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(await this.#stream.write(rest));
    });
    this.#lastWrite = writing.catch(() => {});
    return writing;
  }
}
