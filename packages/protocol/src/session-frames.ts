/**
 * How the server and an agent speak of one SSH session, on a connection of its own: frames of a type, a length (32 bits, big-endian) and that many
 * bytes. The server's first frame is `open`.
 */
export const FRAME = {
  /** Server: JSON, a `SessionSpec`. */
  open: 0,
  /** Server: bytes for the program. It stops when `inputTaken` has not told of `WINDOW_BYTES`. */
  input: 1,
  /** Server: there is no more input. */
  inputEnd: 2,
  /** Server: JSON, a `WindowSize`. */
  resize: 3,
  /** Server: a signal's name without `SIG`. */
  signal: 4,
  /** Server: so many bytes of output (32 bits) have been taken. */
  outputTaken: 5,
  /** Agent: what the program wrote. It stops when `outputTaken` has not told of `WINDOW_BYTES`, of both outputs together. */
  output: 16,
  /** Agent: what it wrote to standard error. */
  errorOutput: 17,
  /** Agent: so many bytes of input (32 bits) have been taken. */
  inputTaken: 18,
  /** Agent: JSON, a `SessionEnd`. Nothing comes behind it. */
  end: 19,
} as const;

/** Of one frame, without its head. */
export const FRAME_BYTES_MAX = 128 * 1024;
/** What may be under way in each direction, so that neither side ever stops reading what the other says. */
export const WINDOW_BYTES = 256 * 1024;
const HEAD_BYTES = 5;

export interface WindowSize {
  readonly columns: number;
  readonly rows: number;
  readonly widthPixels: number;
  readonly heightPixels: number;
}

export interface TerminalSpec extends WindowSize {
  /** The variable TERM. */
  readonly term: string;
  /** Modes of RFC 4254 section 8, by name, such as `VERASE` or `ECHO`. */
  readonly modes: Readonly<Record<string, number>>;
}

/** `program`: `command` is a shell's line; null: a login shell. `files`: SFTP, which the agent speaks itself. */
export type SessionSpec =
  | {
      readonly kind: "program";
      readonly command: string | null;
      /** Null: pipes. */
      readonly terminal: TerminalSpec | null;
      /** Over the sandbox's own variables. */
      readonly env: Readonly<Record<string, string>>;
    }
  | { readonly kind: "files" };

/** How a session ended. `signal`: its name without `SIG`, of a program that a signal ended. */
export interface SessionEnd {
  readonly code: number;
  readonly signal: string | null;
}

/** The payload of a frame that tells of a number. */
export function encodeCount(count: number): Uint8Array<ArrayBuffer> {
  const payload = new Uint8Array(4);
  new DataView(payload.buffer).setUint32(0, count);
  return payload;
}

/** 0 for a payload that is no number. */
export function decodeCount(payload: Uint8Array<ArrayBuffer>): number {
  return payload.length === 4 ? new DataView(payload.buffer, payload.byteOffset).getUint32(0) : 0;
}

export interface Frame {
  readonly type: number;
  readonly payload: Uint8Array<ArrayBuffer>;
}

export function encodeFrame(type: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEAD_BYTES + payload.length);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint32(1, payload.length);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

/** Makes frames of what a connection brings, in whatever pieces. Keeps at most one frame that is not whole. */
export class FrameReader {
  readonly #head = new Uint8Array(HEAD_BYTES);
  #headUsed = 0;
  #payload: Uint8Array<ArrayBuffer> | null = null;
  #payloadUsed = 0;

  /** The frames that are whole with these bytes. Throws a `RangeError` for a frame that is too long. */
  *read(bytes: Uint8Array): Generator<Frame> {
    let offset = 0;
    for (;;) {
      if (this.#payload === null) {
        const part = bytes.subarray(offset, offset + HEAD_BYTES - this.#headUsed);
        this.#head.set(part, this.#headUsed);
        this.#headUsed += part.length;
        offset += part.length;
        if (this.#headUsed < HEAD_BYTES) return;
        const length = new DataView(this.#head.buffer).getUint32(1);
        if (length > FRAME_BYTES_MAX) throw new RangeError(`A frame of ${length} bytes is too long`);
        this.#payload = new Uint8Array(length);
        this.#payloadUsed = 0;
      }
      const part = bytes.subarray(offset, offset + this.#payload.length - this.#payloadUsed);
      this.#payload.set(part, this.#payloadUsed);
      this.#payloadUsed += part.length;
      offset += part.length;
      if (this.#payloadUsed < this.#payload.length) return;
      const payload = this.#payload;
      this.#payload = null;
      this.#headUsed = 0;
      yield { type: this.#head[0] ?? 0, payload };
    }
  }
}
