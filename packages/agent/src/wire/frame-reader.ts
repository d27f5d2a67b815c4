/** Reads up to `buffer.length` bytes; null at the end of the connection. */
export type ReadBytes = (buffer: Uint8Array<ArrayBuffer>) => Promise<number | null>;

export const OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A whole message or one control frame. `payload` belongs to the caller. */
export interface Frame {
  readonly opcode: number;
  readonly payload: Uint8Array<ArrayBuffer>;
}

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

/**
 * Reads the frames that a client sends (RFC 6455 section 5): unmasks them and puts fragments together. Control frames between the
 * fragments of a message are given out at once. Large payloads are read into their own buffer without a copy.
 */
export class FrameReader {
  readonly #read: ReadBytes;
  readonly #maxMessageBytes: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  #fragments: Uint8Array<ArrayBuffer>[] = [];
  #fragmentsOpcode: number = OPCODES.continuation;

  /** `leftover` is what arrived behind the upgrade request. */
  constructor(read: ReadBytes, maxMessageBytes: number, leftover: Uint8Array) {
    this.#read = read;
    this.#maxMessageBytes = maxMessageBytes;
    this.#buffer.set(leftover);
    this.#end = leftover.length;
  }

  /** The next message or control frame; null when the connection ended. Throws `FrameError`. */
  async next(): Promise<Frame | null> {
    for (;;) {
      if (!(await this.#fill(2))) return null;
      const first = this.#buffer[this.#start] ?? 0;
      const second = this.#buffer[this.#start + 1] ?? 0;
      const isFinal = (first & 0x80) !== 0;
      const opcode = first & 0x0f;
      if ((first & 0x70) !== 0) throw new FrameError(1002, "reserved bits are set");
      if ((second & 0x80) === 0) throw new FrameError(1002, "the frame is not masked");
      const payload = await this.#payload(opcode, second & 0x7f);
      if (payload === null) return null;
      if (opcode >= OPCODES.close) {
        if (!isFinal || opcode > OPCODES.pong) throw new FrameError(1002, "the control frame is not valid");
        return { opcode, payload };
      }
      const message = this.#assemble(opcode, isFinal, payload);
      if (message !== null) return message;
    }
  }

  async #payload(opcode: number, shortLength: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const headerBytes = shortLength === 126 ? 8 : shortLength === 127 ? 14 : 6;
    if (!(await this.#fill(headerBytes))) return null;
    const view = new DataView(this.#buffer.buffer, this.#start, headerBytes);
    let length = shortLength;
    if (shortLength === 126) length = view.getUint16(2);
    if (shortLength === 127) length = view.getUint32(2) * 2 ** 32 + view.getUint32(6);
    if (opcode >= OPCODES.close && length > MAX_CONTROL_BYTES)
      throw new FrameError(1002, "the control frame is too long");
    const total = this.#fragments.reduce((sum, fragment) => sum + fragment.length, length);
    if (total > this.#maxMessageBytes) {
      throw new FrameError(1009, `the message is larger than ${this.#maxMessageBytes} bytes`);
    }
    const mask = this.#buffer.slice(this.#start + headerBytes - 4, this.#start + headerBytes);
    this.#start += headerBytes;
    const payload = await this.#take(length);
    if (payload !== null) unmask(payload, mask);
    return payload;
  }

  #assemble(opcode: number, isFinal: boolean, payload: Uint8Array<ArrayBuffer>): Frame | null {
    const isContinuation = opcode === OPCODES.continuation;
    if (opcode > OPCODES.binary) throw new FrameError(1002, "the opcode is not known");
    if (isContinuation !== this.#fragments.length > 0) throw new FrameError(1002, "the fragments are out of order");
    if (isFinal && !isContinuation) return { opcode, payload };
    if (!isContinuation) this.#fragmentsOpcode = opcode;
    this.#fragments.push(payload);
    if (!isFinal) return null;
    const message = { opcode: this.#fragmentsOpcode, payload: concatenate(this.#fragments) };
    this.#fragments = [];
    return message;
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

  /** Takes `length` bytes out, reading what is missing straight into the result. */
  async #take(length: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const payload = new Uint8Array(length);
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
    return payload;
  }
}

/** Applies the mask in place, four bytes at a time. */
function unmask(payload: Uint8Array<ArrayBuffer>, mask: Uint8Array<ArrayBuffer>): void {
  const wholeWords = payload.length >> 2;
  const words = new Uint32Array(payload.buffer, payload.byteOffset, wholeWords);
  const maskWord = new Uint32Array(mask.buffer)[0] ?? 0;
  for (let index = 0; index < wholeWords; index += 1) words[index] = (words[index] ?? 0) ^ maskWord;
  for (let index = wholeWords << 2; index < payload.length; index += 1) {
    payload[index] = (payload[index] ?? 0) ^ (mask[index & 3] ?? 0);
  }
}

/** Puts pieces together into one. */
export function concatenate(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    result.set(piece, offset);
    offset += piece.length;
  }
  return result;
}
