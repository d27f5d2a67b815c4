import type { LargePayload } from "./large-payload.ts";

/** Reads up to `buffer.length` bytes; null at the end of the connection. */
export type ReadBytes = (buffer: Uint8Array<ArrayBuffer>) => Promise<number | null>;

export const OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A whole message or one control frame. `payload` belongs to the caller; only that of a message may be large. */
export interface Frame {
  readonly opcode: number;
  readonly payload: Uint8Array<ArrayBuffer> | LargePayload;
}

/** Finds a place for a message of so many bytes. */
export type HoldPayload = (length: number) => Promise<LargePayload>;

/** The peer broke RFC 6455; `closeCode` says how. */
export class FrameError extends Error {
  readonly closeCode: number;

  constructor(closeCode: number, message: string) {
    super(message);
    this.name = "FrameError";
    this.closeCode = closeCode;
  }
}

const BUFFER_BYTES = 64 * 1024;
const MAX_CONTROL_BYTES = 125;
/** Messages above this do not become one array. */
const LARGE_BYTES = 1024 * 1024;
/** What is read of a large message at a time. A multiple of four, as the mask repeats. */
const PIECE_BYTES = 256 * 1024;
const FIRST_FRAGMENTS_BYTES = 1024;

/**
 * Reads the frames that a client sends (RFC 6455 section 5): unmasks them and puts fragments together. Control frames between the
 * fragments of a message are given out at once. A large message goes to the place that `hold` finds, piece by piece.
 */
export class FrameReader {
  readonly #read: ReadBytes;
  readonly #hold: HoldPayload;
  readonly #maxMessageBytes: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  readonly #fragments = new Fragments();
  /** The message that is being read and has a place already. */
  #held: LargePayload | null = null;
  #isInFrame = false;

  /** `leftover` is what arrived behind the upgrade request. */
  constructor(read: ReadBytes, maxMessageBytes: number, leftover: Uint8Array, hold: HoldPayload) {
    this.#read = read;
    this.#maxMessageBytes = maxMessageBytes;
    this.#buffer.set(leftover);
    this.#end = leftover.length;
    this.#hold = hold;
  }

  /** Whether a frame has begun that is not whole: what the peer sends meanwhile, an answer to a ping too, can only come behind it. */
  get isInFrame(): boolean {
    return this.#isInFrame;
  }

  /** The next message or control frame; null when the connection ended. Throws `FrameError`. */
  async next(): Promise<Frame | null> {
    for (;;) {
      this.#isInFrame = false;
      if (!(await this.#fill(2))) return null;
      this.#isInFrame = true;
      const first = this.#buffer[this.#start] ?? 0;
      const second = this.#buffer[this.#start + 1] ?? 0;
      const isFinal = (first & 0x80) !== 0;
      const opcode = first & 0x0f;
      if ((first & 0x70) !== 0) throw new FrameError(1002, "reserved bits are set");
      if ((second & 0x80) === 0) throw new FrameError(1002, "the frame is not masked");
      const header = await this.#header(second & 0x7f);
      if (header === null) return null;
      if (opcode >= OPCODES.close) {
        if (header.length > MAX_CONTROL_BYTES) throw new FrameError(1002, "the control frame is too long");
        if (!isFinal || opcode > OPCODES.pong) throw new FrameError(1002, "the control frame is not valid");
        const payload = await this.#take(header);
        return payload === null ? null : { opcode, payload };
      }
      const isContinuation = opcode === OPCODES.continuation;
      if (opcode > OPCODES.binary) throw new FrameError(1002, "the opcode is not known");
      if (isContinuation !== this.#fragments.isOpen) throw new FrameError(1002, "the fragments are out of order");
      if (this.#fragments.length + header.length > this.#maxMessageBytes) {
        throw new FrameError(1009, `the message is larger than ${this.#maxMessageBytes} bytes`);
      }
      if (isFinal && !isContinuation) {
        const payload = await (header.length > LARGE_BYTES ? this.#takeLarge(header) : this.#take(header));
        return payload === null ? null : { opcode, payload };
      }
      if (!isContinuation) this.#fragments.open(opcode);
      if (!(await this.#takeFragment(header))) return null;
      if (isFinal) return this.#fragments.finish();
    }
  }

  /** Lets go of what was read of a message whose end never came. */
  close(): void {
    this.#held?.release();
    this.#fragments.close();
  }

  async #header(shortLength: number): Promise<Header | null> {
    const headerBytes = shortLength === 126 ? 8 : shortLength === 127 ? 14 : 6;
    if (!(await this.#fill(headerBytes))) return null;
    const view = new DataView(this.#buffer.buffer, this.#start, headerBytes);
    let length = shortLength;
    if (shortLength === 126) length = view.getUint16(2);
    if (shortLength === 127) length = view.getUint32(2) * 2 ** 32 + view.getUint32(6);
    const mask = this.#buffer.slice(this.#start + headerBytes - 4, this.#start + headerBytes);
    this.#start += headerBytes;
    return { length, mask };
  }

  async #takeLarge(header: Header): Promise<LargePayload | null> {
    const held = await this.#hold(header.length);
    this.#held = held;
    if (!(await this.#takePieces(header, (piece) => held.append(piece)))) return null;
    this.#held = null;
    return held;
  }

  async #takeFragment(header: Header): Promise<boolean> {
    return await this.#takePieces(header, async (piece) => {
      const held = this.#fragments.append(piece);
      if (held !== null) return await held.append(piece);
      if (this.#fragments.length > LARGE_BYTES) await this.#fragments.moveTo(await this.#hold(this.#maxMessageBytes));
      return true;
    });
  }

  /** Takes a payload in pieces, of which each is only lent; false when the connection ended before. */
  async #takePieces(
    { length, mask }: Header,
    append: (piece: Uint8Array<ArrayBuffer>) => boolean | Promise<boolean>,
  ): Promise<boolean> {
    const buffer = new Uint8Array(Math.min(PIECE_BYTES, length));
    for (let taken = 0; taken < length; taken += PIECE_BYTES) {
      const piece = await this.#take({ length: Math.min(PIECE_BYTES, length - taken), mask }, buffer);
      if (piece === null) return false;
      if (!(await append(piece))) throw new FrameError(1009, "there is no room for a message of this size");
    }
    return true;
  }

  /** Makes at least `count` bytes available in the buffer; false when the connection ended before. */
  async #fill(count: number): Promise<boolean> {
    if (this.#start + count > this.#buffer.length) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    while (this.#end - this.#start < count) {
      const received = await this.#read(this.#buffer.subarray(this.#end));
      if (received === null) return false;
      this.#end += received;
    }
    return true;
  }

  /** Takes a payload out, reading what is missing straight into the result, which is the beginning of `into`. */
  async #take(
    { length, mask }: Header,
    into: Uint8Array<ArrayBuffer> = new Uint8Array(length),
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    const payload = into.subarray(0, length);
    let filled = Math.min(length, this.#end - this.#start);
    payload.set(this.#buffer.subarray(this.#start, this.#start + filled));
    this.#start += filled;
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
    }
    while (filled < length) {
      // Small rests are read through the buffer, so that one read can bring the next frames along.
      const rest = payload.subarray(filled);
      const isSmall = rest.length < BUFFER_BYTES / 2;
      const received = await this.#read(isSmall ? this.#buffer : rest);
      if (received === null) return null;
      if (isSmall) {
        const used = Math.min(received, rest.length);
        rest.set(this.#buffer.subarray(0, used));
        this.#start = used === received ? 0 : used;
        this.#end = used === received ? 0 : received;
        filled += used;
      } else {
        filled += received;
      }
    }
    unmask(payload, mask);
    return payload;
  }
}

/**
 * The fragments of one message so far, put together as they come: kept apart, many small ones would take more room than their bytes and ever
 * more time.
 */
class Fragments {
  #bytes = new Uint8Array();
  #length = 0;
  #held: LargePayload | null = null;
  #opcode: number | null = null;

  get isOpen(): boolean {
    return this.#opcode !== null;
  }

  get length(): number {
    return this.#length;
  }

  open(opcode: number): void {
    this.#opcode = opcode;
  }

  /** Adds bytes; those of a message that has a place are left to the caller to put there. */
  append(piece: Uint8Array): LargePayload | null {
    this.#length += piece.length;
    if (this.#held !== null) return this.#held;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(FIRST_FRAGMENTS_BYTES, this.#length * 2));
      larger.set(this.#bytes.subarray(0, this.#length - piece.length));
      this.#bytes = larger;
    }
    this.#bytes.set(piece, this.#length - piece.length);
    return null;
  }

  async moveTo(held: LargePayload): Promise<void> {
    this.#held = held;
    if (!(await held.append(this.#bytes.subarray(0, this.#length)))) {
      throw new FrameError(1009, "there is no room for a message of this size");
    }
    this.#bytes = new Uint8Array();
  }

  finish(): Frame {
    const frame = {
      opcode: this.#opcode ?? OPCODES.text,
      payload: this.#held ?? this.#bytes.subarray(0, this.#length),
    };
    this.#bytes = new Uint8Array();
    this.#length = 0;
    this.#held = null;
    this.#opcode = null;
    return frame;
  }

  close(): void {
    this.#held?.release();
  }
}

interface Header {
  readonly length: number;
  readonly mask: Uint8Array<ArrayBuffer>;
}

/** Applies the mask in place, four bytes at a time. */
function unmask(payload: Uint8Array<ArrayBuffer>, mask: Uint8Array<ArrayBuffer>): void {
  const wholeWords = payload.length >> 2;
  const words = new Uint32Array(payload.buffer, payload.byteOffset, wholeWords);
  const maskWord = new Uint32Array(mask.buffer)[0] ?? 0;
  if (maskWord === 0) return;
  for (let index = 0; index < wholeWords; index += 1) words[index] = (words[index] ?? 0) ^ maskWord;
  for (let index = wholeWords << 2; index < payload.length; index += 1) {
    payload[index] = (payload[index] ?? 0) ^ (mask[index & 3] ?? 0);
  }
}
