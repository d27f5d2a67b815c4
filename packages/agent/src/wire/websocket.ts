import { CLOSE_CODES } from "@caisson/protocol/rpc";
import type { Budget } from "../host/budget.ts";
import { startInterval, startTimer } from "../host/timers.ts";
import { type Frame, FrameError, FrameReader, OPCODES } from "./frame-reader.ts";
import { FrameWriter, type TextPieces } from "./frame-writer.ts";
import { holdPayload } from "./hold-payload.ts";
import type { LargePayload } from "./large-payload.ts";

/** Room for a file of 256 MiB as base64 in one message (protocol.md 3.1), and the message around it. */
const MAX_MESSAGE_BYTES = 384 * 1024 * 1024;
/** How long the peer may take to answer a close frame, or to take the one we send. */
const CLOSE_TIMEOUT_MS = 1_000;
/** Pings in a row without an answer after which the peer counts as gone. */
const MAX_MISSED_PINGS = 2;
/**
 * As many in the middle of a frame, where an answer cannot come before the rest of it: a client that makes the next large message in one go sends
 * nothing for as long as that takes. A machine that vanishes then is noticed by the kernel of the host.
 */
const MAX_MISSED_IN_FRAME = 20;
/** How long a peer that has never answered a ping is waited for where its answer would say how far it has read. */
const FIRST_PONG_TIMEOUT_MS = 2_000;
const MAX_CLOSE_REASON_BYTES = 123;

/** A byte stream in both directions, as Deno's connections are. */
export interface ByteStream {
  read(buffer: Uint8Array<ArrayBuffer>): Promise<number | null>;
  write(bytes: Uint8Array<ArrayBuffer>): Promise<number>;
  close(): void;
}

/**
 * The server's side of one WebSocket, after the upgrade. `receive` hands out messages until the connection ends; pings are answered
 * and sent meanwhile. A frame library of our own, because Deno's built-in one refuses messages above 64 MiB and hides back-pressure,
 * and the usual npm one doubles the agent's memory and triples its start-up time.
 */
export class WebSocketPeer {
  readonly #stream: ByteStream;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #stopPings: () => void;
  #stopCloseTimer = () => {};
  #missedPings = 0;
  #lastMark = 0;
  readonly #marks = new Map<number, () => void>();
  #hasAnswered = false;
  #isReading = false;
  #closeSent: Promise<boolean> | null = null;
  #isClosed = false;

  /** `budget` is the memory for large messages. */
  constructor(stream: ByteStream, leftover: Uint8Array, pingIntervalMs: number, budget: Budget) {
    this.#stream = stream;
    const hold = (length: number) => holdPayload(length, budget);
    this.#reader = new FrameReader((buffer) => this.#read(buffer), MAX_MESSAGE_BYTES, leftover, hold);
    this.#writer = new FrameWriter((bytes) => stream.write(bytes));
    this.#stopPings = startInterval(pingIntervalMs, () => this.#ping());
  }

  /** Sends a text message; see `FrameWriter.send`. After `close` nothing is sent. */
  send(text: string, isAscii = false): Promise<boolean> {
    return this.#closeSent === null ? this.#writer.send(text, isAscii) : Promise.resolve(false);
  }

  /** Sends a text message that is made meanwhile; see `FrameWriter.sendPieces`. */
  sendPieces(pieces: TextPieces): Promise<boolean> {
    return this.#closeSent === null ? this.#writer.sendPieces(pieces) : Promise.resolve(false);
  }

  /** Resolves when at most `characters` wait to be sent; see `FrameWriter.room`. */
  room(characters: number): Promise<void> {
    return this.#writer.room(characters);
  }

  /**
   * Resolves when the peer has read everything that was queued before, which its answer to a ping behind it shows, or when the connection has
   * ended. Only a peer that has never answered a ping is not waited for longer than two seconds.
   */
  async reached(): Promise<void> {
    if (this.#closeSent !== null) return;
    this.#lastMark += 1;
    const mark = this.#lastMark;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#marks.set(mark, resolve);
    void this.#writer.sendMark(String(mark)).then((isSent) => {
      if (!isSent) resolve();
    });
    const stopTimer = this.#hasAnswered ? () => {} : startTimer(FIRST_PONG_TIMEOUT_MS, resolve);
    await promise;
    stopTimer();
    this.#marks.delete(mark);
  }

  /** Answers the application's text `ping` in front of everything that waits (protocol.md 3.1). */
  sendPong(): void {
    if (this.#closeSent === null) void this.#writer.sendControl(OPCODES.text, "pong");
  }

  /** The next message's bytes, or null when the connection has ended, for whatever reason. A large one is to be released. */
  async receive(): Promise<Uint8Array<ArrayBuffer> | LargePayload | null> {
    for (;;) {
      const frame = await this.#nextFrame();
      if (frame === null) {
        this.#end();
        return null;
      }
      const { opcode, payload } = frame;
      if (!(payload instanceof Uint8Array)) {
        if (this.#closeSent === null) return payload;
        payload.release();
      } else if (opcode === OPCODES.ping && this.#closeSent === null) {
        void this.#writer.sendControl(OPCODES.pong, payload);
        await this.#writer.room(Number.POSITIVE_INFINITY);
      } else if (opcode === OPCODES.pong) {
        this.#passMarks(payload);
      } else if (opcode === OPCODES.close) {
        await this.#answerClose(payload);
        return null;
      } else if ((opcode === OPCODES.text || opcode === OPCODES.binary) && this.#closeSent === null) {
        return payload;
      }
    }
  }

  /**
   * Starts the closing handshake. Messages that wait are dropped. Resolves when the kernel has the close frame or the connection
   * failed; the connection itself ends when the peer answers, or after one second.
   */
  async close(code: number, reason: string): Promise<void> {
    if (this.#closeSent === null) {
      this.#writer.dropMessages();
      this.#closeSent = this.#writer.sendControl(OPCODES.close, closePayload(code, reason));
      this.#stopCloseTimer = startTimer(CLOSE_TIMEOUT_MS, () => this.#end());
    }
    await this.#closeSent;
  }

  async #nextFrame(): Promise<Frame | null> {
    try {
      return await this.#reader.next();
    } catch (error) {
      if (error instanceof FrameError && !this.#isClosed) await this.close(error.closeCode, error.message);
      // Any other failure means that the connection is gone, which ending it says already.
      return null;
    }
  }

  /** Every byte shows that the client lives: its answer to a ping may stand behind a file that takes minutes to come. */
  async #read(buffer: Uint8Array<ArrayBuffer>): Promise<number | null> {
    this.#isReading = true;
    try {
      return await this.#stream.read(buffer);
    } finally {
      this.#isReading = false;
      this.#missedPings = 0;
    }
  }

  /** Completes the handshake that the client began: the same code back, or none (protocol.md 3.8). */
  async #answerClose(payload: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#closeSent === null) {
      this.#writer.dropMessages();
      const answer = isValidClose(payload) ? payload.slice(0, 2) : closePayload(CLOSE_CODES.protocolError, "");
      this.#closeSent = this.#writer.sendControl(OPCODES.close, answer);
      this.#stopCloseTimer = startTimer(CLOSE_TIMEOUT_MS, () => this.#end());
    }
    await this.#closeSent;
    this.#end();
  }

  /** An answer stands for every ping before it too (RFC 6455 section 5.5.3). */
  #passMarks(payload: Uint8Array<ArrayBuffer>): void {
    this.#hasAnswered = true;
    const passed = Number(new TextDecoder().decode(payload));
    for (const [mark, resolve] of this.#marks) if (mark <= passed) resolve();
  }

  #ping(): void {
    if (this.#closeSent !== null) return;
    if (this.#missedPings >= (this.#reader.isInFrame ? MAX_MISSED_IN_FRAME : MAX_MISSED_PINGS)) {
      void this.close(CLOSE_CODES.goingAway, "the client does not answer pings");
      return;
    }
    // While the agent itself holds back reading, a missing answer says nothing about the client.
    if (this.#isReading) this.#missedPings += 1;
    void this.#writer.sendControl(OPCODES.ping, new Uint8Array());
  }

  #end(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeSent ??= Promise.resolve(false);
    this.#stopPings();
    this.#stopCloseTimer();
    this.#writer.dropMessages();
    for (const resolve of this.#marks.values()) resolve();
    this.#reader.close();
    this.#stream.close();
  }
}

function closePayload(code: number, reason: string): Uint8Array<ArrayBuffer> {
  const text = new Uint8Array(MAX_CLOSE_REASON_BYTES);
  const { written } = new TextEncoder().encodeInto(reason, text);
  const payload = new Uint8Array(2 + written);
  new DataView(payload.buffer).setUint16(0, code);
  payload.set(text.subarray(0, written), 2);
  return payload;
}

/** No code at all, or one that may stand in a close frame (RFC 6455 section 7.4). */
function isValidClose(payload: Uint8Array<ArrayBuffer>): boolean {
  if (payload.length === 0) return true;
  if (payload.length === 1) return false;
  const code = new DataView(payload.buffer, payload.byteOffset).getUint16(0);
  return (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);
}
