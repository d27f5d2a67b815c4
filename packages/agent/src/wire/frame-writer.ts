import { OPCODES } from "./frame-reader.ts";

/** Writes some of the bytes and says how many. */
export type WriteBytes = (bytes: Uint8Array<ArrayBuffer>) => Promise<number>;

/** The UTF-8 of one text message, in pieces that are made when they can be sent. It must not throw. */
export type TextPieces = AsyncIterable<Uint8Array>;

interface Outgoing {
  readonly opcode: number;
  readonly text: string | null;
  readonly isAscii: boolean;
  readonly bytes: Uint8Array | null;
  readonly pieces: TextPieces | null;
  readonly onFlushed: (isSent: boolean) => void;
}

interface Batch {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly items: readonly Outgoing[];
}

const MAX_HEADER_BYTES = 10;
const SCRATCH_BYTES = 256 * 1024;
/** Control frames that may wait. A client that sends pings and takes no answers is not read from until it does. */
const MAX_WAITING_CONTROLS = 64;
/** Messages taken after which the queue lets go of them. Under a steady flow it never runs empty. */
const COMPACT_AFTER = 64;
const FINAL = 0x80;

const encoder = new TextEncoder();

/**
 * Sends frames in order, as few writes as possible: what is queued when a write begins goes out together. Control frames overtake
 * waiting messages. Memory is one scratch buffer, the texts that wait, and one piece of a message that is sent in pieces.
 */
export class FrameWriter {
  readonly #write: WriteBytes;
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  readonly #control: Outgoing[] = [];
  #messages: Outgoing[] = [];
  /** First message that waits; the array is compacted now and then only, so that taking one does not move the others. */
  #next = 0;
  #isRunning = false;
  #isFailed = false;
  /** Set when no message may be sent any more. */
  #isClosing = false;
  /** Characters of messages that were not encoded yet. */
  #waitingCharacters = 0;
  #onTaken: (() => void)[] = [];

  constructor(write: WriteBytes) {
    this.#write = write;
  }

  /** Resolves when at most `characters` and few control frames wait, or when the connection failed. Who waits longest goes first. */
  async room(characters: number): Promise<void> {
    while (this.#waitingCharacters > characters || this.#control.length > MAX_WAITING_CONTROLS) {
      await new Promise<void>((resolve) => this.#onTaken.push(resolve));
    }
  }

  /**
   * Queues a text message. Resolves true when the kernel has it, false when it was dropped because the connection failed. `isAscii`
   * promises that each character is one byte.
   */
  send(text: string, isAscii = false): Promise<boolean> {
    return this.#queue({ opcode: OPCODES.text, text, isAscii, bytes: null, pieces: null });
  }

  /** Queues a text message that is made while it is sent, so that it never is in memory as a whole. Resolves like `send`. */
  sendPieces(pieces: TextPieces): Promise<boolean> {
    return this.#queue({ opcode: OPCODES.text, text: null, isAscii: false, bytes: null, pieces });
  }

  /** Queues a ping behind the messages that wait, where those of `sendControl` overtake. Resolves like `send`. */
  sendMark(text: string): Promise<boolean> {
    return this.#queue({ opcode: OPCODES.ping, text, isAscii: true, bytes: null, pieces: null });
  }

  /** Queues a frame in front of the messages that wait. Resolves like `send`. */
  sendControl(opcode: number, payload: Uint8Array | string): Promise<boolean> {
    if (this.#isFailed) return Promise.resolve(false);
    const isText = typeof payload === "string";
    const flushed = new Promise<boolean>((resolve) => {
      const content = isText ? { text: payload, bytes: null } : { text: null, bytes: payload };
      this.#control.push({ opcode, ...content, isAscii: false, pieces: null, onFlushed: resolve });
    });
    this.#run();
    return flushed;
  }

  /** Drops all messages that no write has begun for, and the rest of one that is sent in pieces. No message is sent after this. */
  dropMessages(): void {
    this.#isClosing = true;
    const dropped = this.#messages.slice(this.#next);
    this.#messages = [];
    this.#next = 0;
    this.#waitingCharacters = 0;
    for (const item of dropped) item.onFlushed(false);
    this.#wake();
  }

  #queue(item: Omit<Outgoing, "onFlushed">): Promise<boolean> {
    if (this.#isFailed || this.#isClosing) return Promise.resolve(false);
    this.#waitingCharacters += item.text?.length ?? 0;
    const flushed = new Promise<boolean>((onFlushed) => this.#messages.push({ ...item, onFlushed }));
    this.#run();
    return flushed;
  }

  #wake(): void {
    for (const resolve of this.#onTaken.splice(0)) resolve();
  }

  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Waiting for the end of the turn lets everything that one event causes leave in one write.
    queueMicrotask(() => void this.#drain());
  }

  async #drain(): Promise<void> {
    let batch = this.#fillScratch();
    try {
      for (; batch !== null; batch = this.#fillScratch()) {
        await this.#writeAll(batch.bytes);
        const [first] = batch.items;
        const isSent = first?.pieces == null || (await this.#writePieces(first.opcode, first.pieces));
        for (const item of batch.items) item.onFlushed(isSent);
        this.#wake();
      }
      this.#isRunning = false;
    } catch {
      // The reading side reports why the connection failed; here only nobody may go on waiting.
      this.#isFailed = true;
      for (const item of [...(batch?.items ?? []), ...this.#control.splice(0)]) item.onFlushed(false);
      this.dropMessages();
    }
  }

  async #writeAll(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(await this.#write(rest));
  }

  /**
   * Sends one message as fragments, and control frames between them (RFC 6455 section 5.4). Other messages, the text `pong` among them, cannot go
   * between. False when the connection was closed meanwhile.
   */
  async #writePieces(messageOpcode: number, pieces: TextPieces): Promise<boolean> {
    let opcode = messageOpcode;
    for await (const piece of pieces) {
      await this.#writeFragment(opcode, piece);
      opcode = OPCODES.continuation;
      const controls = this.#takeControls();
      await this.#writeAll(controls.bytes);
      for (const item of controls.items) item.onFlushed(true);
      if (this.#isClosing) return false;
    }
    await this.#writeFragment(FINAL | opcode, new Uint8Array());
    return true;
  }

  async #writeFragment(firstByte: number, content: Uint8Array): Promise<void> {
    const header = encodeHeader(firstByte, content.length);
    const frame = new Uint8Array(header.length + content.length);
    frame.set(header);
    frame.set(content, header.length);
    await this.#writeAll(frame);
  }

  /** Control frames that wait and may go between fragments. */
  #takeControls(): Batch {
    const items: Outgoing[] = [];
    let used = 0;
    for (let index = 0; index < this.#control.length; ) {
      const item = this.#control[index];
      if (item === undefined || item.opcode < OPCODES.close) index += 1;
      else {
        this.#control.splice(index, 1);
        used += this.#encode(item, used);
        items.push(item);
      }
      if (used > SCRATCH_BYTES / 2) break;
    }
    return { bytes: this.#scratch.subarray(0, used), items };
  }

  /** Encodes as many waiting frames as fit; one that does not fit goes alone. Null when nothing waits. */
  #fillScratch(): Batch | null {
    const items: Outgoing[] = [];
    let used = 0;
    for (let item = this.#peek(); item !== undefined; item = this.#peek()) {
      if (item.pieces !== null) {
        if (items.length > 0) break;
        this.#shift();
        return { bytes: new Uint8Array(), items: [item] };
      }
      const worstBytes = MAX_HEADER_BYTES + worstLength(item);
      if (item.text !== null && worstBytes > SCRATCH_BYTES) {
        if (items.length > 0) break;
        this.#shift();
        return { bytes: encodeAlone(item.opcode, item.text), items: [item] };
      }
      if (used + worstBytes > SCRATCH_BYTES) break;
      this.#shift();
      used += this.#encode(item, used);
      items.push(item);
    }
    return items.length === 0 ? null : { bytes: this.#scratch.subarray(0, used), items };
  }

  #peek(): Outgoing | undefined {
    return this.#control[0] ?? this.#messages[this.#next];
  }

  #shift(): void {
    if (this.#control.shift() !== undefined) return;
    this.#waitingCharacters -= this.#messages[this.#next]?.text?.length ?? 0;
    this.#next += 1;
    if (this.#next < this.#messages.length && this.#next < COMPACT_AFTER) return;
    this.#messages = this.#messages.slice(this.#next);
    this.#next = 0;
  }

  /** Encodes one frame at `offset` of the scratch buffer and returns its length. */
  #encode(item: Outgoing, offset: number): number {
    const firstByte = FINAL | item.opcode;
    const known = knownLength(item);
    const headerRoom = known === null ? MAX_HEADER_BYTES : encodeHeader(firstByte, known).length;
    const start = offset + headerRoom;
    const length = this.#putContent(item, start);
    const header = encodeHeader(firstByte, length);
    this.#scratch.set(header, offset);
    if (header.length < headerRoom) this.#scratch.copyWithin(offset + header.length, start, start + length);
    return header.length + length;
  }

  #putContent({ text, bytes }: Outgoing, offset: number): number {
    if (text !== null) return encoder.encodeInto(text, this.#scratch.subarray(offset)).written;
    this.#scratch.set(bytes ?? [], offset);
    return bytes?.length ?? 0;
  }
}

/** The length in bytes where it is known without encoding. */
function knownLength({ text, bytes, isAscii }: Outgoing): number | null {
  if (text === null) return bytes?.length ?? 0;
  return isAscii ? text.length : null;
}

function worstLength(item: Outgoing): number {
  if (item.text === null) return item.bytes?.length ?? 0;
  return item.text.length * (item.isAscii ? 1 : 3);
}

function encodeAlone(opcode: number, text: string): Uint8Array<ArrayBuffer> {
  // One buffer for header and text: measuring first would encode a text of megabytes twice.
  const buffer = new Uint8Array(MAX_HEADER_BYTES + text.length * (isOneByte(text) ? 1 : 3));
  const { written } = encoder.encodeInto(text, buffer.subarray(MAX_HEADER_BYTES));
  const header = encodeHeader(FINAL | opcode, written);
  const start = MAX_HEADER_BYTES - header.length;
  buffer.set(header, start);
  return buffer.subarray(start, MAX_HEADER_BYTES + written);
}

/** True when every character is ASCII, so that the encoded length is the length. */
function isOneByte(text: string): boolean {
  return !/[^\0-\x7f]/.test(text);
}

/** The header of an unmasked frame, with the length in its shortest form as RFC 6455 requires. */
function encodeHeader(first: number, length: number): Uint8Array {
  if (length < 126) return Uint8Array.of(first, length);
  if (length < 65_536) return Uint8Array.of(first, 126, length >> 8, length & 0xff);
  const header = new Uint8Array(MAX_HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint8(0, first);
  view.setUint8(1, 127);
  view.setUint32(2, Math.floor(length / 2 ** 32));
  view.setUint32(6, length >>> 0);
  return header;
}
