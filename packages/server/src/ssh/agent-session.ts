import type { Duplex } from "node:stream";
import {
  decodeCount,
  encodeCount,
  encodeFrame,
  FRAME,
  FRAME_BYTES_MAX,
  type Frame,
  FrameReader,
  type SessionEnd,
  type SessionSpec,
  WINDOW_BYTES,
  type WindowSize,
} from "@caisson/protocol/session-frames";
import { Type } from "typebox";
import { Value } from "typebox/value";

const HEAD_END = "\r\n\r\n";
const HEAD_BYTES_MAX = 4096;
const INPUT_FRAME_BYTES = 64 * 1024;
/** An agent of ours always reads. */
const UNREAD_BYTES_MAX = 4 * WINDOW_BYTES;

const EndSchema = Type.Object({
  code: Type.Integer({ minimum: 0, maximum: 255 }),
  signal: Type.Union([Type.Null(), Type.String({ pattern: "^[A-Z0-9+]{1,16}$" })]),
});

export interface AgentSessionEvents {
  /** Resolves when the client has taken it. */
  onOutput(bytes: Uint8Array, isError: boolean): Promise<void>;
  /** There is room for input again. */
  onInputTaken(): void;
  /** The last event. Null: the sandbox has ended, or says what it should not. */
  onEnd(end: SessionEnd | null): void;
}

/**
 * One session with a sandbox's agent, on a connection of its own. The agent may be anybody's program by now: what it says is shown to the client of
 * its own sandbox, and more than it may send at a time ends the session.
 */
export class AgentSession {
  readonly #socket: Duplex;
  readonly #events: AgentSessionEvents;
  readonly #frames = new FrameReader();
  #head: string | null = "";
  #inputUnderWay = 0;
  #outputUnderWay = 0;
  #lastOutput: Promise<void> = Promise.resolve();
  #hasEnded = false;

  constructor(agent: Duplex, spec: SessionSpec, events: AgentSessionEvents) {
    this.#events = events;
    this.#socket = agent;
    this.#socket.on("error", () => undefined);
    this.#socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    this.#socket.once("close", () => this.#end(null));
    this.#socket.write("GET /session HTTP/1.1\r\nHost: agent\r\n\r\n");
    this.#send(FRAME.open, Buffer.from(JSON.stringify(spec)));
  }

  get hasRoomForInput(): boolean {
    return this.#inputUnderWay < WINDOW_BYTES;
  }

  input(bytes: Buffer): void {
    this.#inputUnderWay += bytes.length;
    for (let start = 0; start < bytes.length; start += INPUT_FRAME_BYTES)
      this.#send(FRAME.input, bytes.subarray(start, start + INPUT_FRAME_BYTES));
  }

  inputEnd(): void {
    this.#send(FRAME.inputEnd, Buffer.alloc(0));
  }

  resize(size: WindowSize): void {
    this.#send(FRAME.resize, Buffer.from(JSON.stringify(size)));
  }

  /** `name` without `SIG`. */
  signal(name: string): void {
    this.#send(FRAME.signal, Buffer.from(name));
  }

  /** The client has gone. No event comes any more. */
  close(): void {
    this.#hasEnded = true;
    this.#socket.destroy();
  }

  #send(type: number, payload: Uint8Array): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(encodeFrame(type, payload));
    if (this.#socket.writableLength > UNREAD_BYTES_MAX) this.#socket.destroy();
  }

  #receive(bytes: Buffer): void {
    const frames = this.#head === null ? bytes : this.#readHead(bytes);
    if (frames === null || this.#hasEnded) return;
    try {
      for (const frame of this.#frames.read(frames)) this.#take(frame);
    } catch {
      this.#socket.destroy();
    }
  }

  /** What came behind the answer's head; null while that is not whole. */
  #readHead(bytes: Buffer): Buffer | null {
    const text = this.#head + bytes.toString("latin1");
    const end = text.indexOf(HEAD_END);
    const isBad = !text.startsWith("HTTP/1.1 200 ".slice(0, text.length)) || (end < 0 && text.length > HEAD_BYTES_MAX);
    if (isBad) this.#socket.destroy();
    this.#head = end < 0 ? text : null;
    return end < 0 || isBad ? null : Buffer.from(text.slice(end + HEAD_END.length), "latin1");
  }

  /** Throws for what no agent of ours says. */
  #take({ type, payload }: Frame): void {
    if (type === FRAME.output || type === FRAME.errorOutput) this.#takeOutput(payload, type === FRAME.errorOutput);
    else if (type === FRAME.inputTaken) {
      this.#inputUnderWay -= Math.min(decodeCount(payload), this.#inputUnderWay);
      this.#events.onInputTaken();
    } else if (type === FRAME.end) {
      const end: unknown = JSON.parse(Buffer.from(payload).toString());
      if (!Value.Check(EndSchema, end)) throw new Error("This is no end of a session");
      this.#end(end);
    } else throw new Error(`There is no frame of the type ${type}`);
  }

  #takeOutput(payload: Uint8Array, isError: boolean): void {
    if (this.#outputUnderWay >= WINDOW_BYTES + FRAME_BYTES_MAX) throw new Error("The agent sends more than it may");
    this.#outputUnderWay += payload.length;
    this.#lastOutput = this.#lastOutput.then(async () => {
      await this.#events.onOutput(payload, isError);
      this.#outputUnderWay -= payload.length;
      this.#send(FRAME.outputTaken, encodeCount(payload.length));
    });
  }

  /** Tells of the end once all output is with the client. */
  #end(end: SessionEnd | null): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    void this.#lastOutput.then(() => {
      this.#socket.destroy();
      this.#events.onEnd(end);
    });
  }
}
