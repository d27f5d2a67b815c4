import { OPCODES } from "./frame-reader.ts";

/** Writes some of the bytes and says how many. */
export type WriteBytes = (bytes: Uint8Array<ArrayBuffer>) => Promise<number>;

interface Outgoing {
  readonly opcode: number;
  readonly text: string | null;
  readonly isAscii: boolean;
  readonly bytes: Uint8Array | null;
  readonly onFlushed: (isSent: boolean) => void;
}

const MAX_HEADER_BYTES = 10;
const SCRATCH_BYTES = 256 * 1024;

const encoder = new TextEncoder();

/**
 * Sends frames in order, as few writes as possible: what is queued when a write begins goes out together. Control frames overtake
 * waiting messages. Memory is one scratch buffer and the texts that wait.
 */
export class FrameWriter {
  readonly #write: WriteBytes;
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  readonly #control: Outgoing[] = [];
  #messages: Outgoing[] = [];
  /** First message that waits; the array is compacted when it runs empty, so that taking one does not move the others. */
  #next = 0;
  #isRunning = false;
  #isFailed = false;
  /** Characters of messages that were not encoded yet. */
  #waitingCharacters = 0;
  #onTaken: (() => void) | null = null;

  constructor(write: WriteBytes) {
    this.#write = write;
  }

  /** Resolves when at most `characters` wait, or when the connection failed. */
  async room(characters: number): Promise<void> {
    while (this.#waitingCharacters > characters) {
      await new Promise<void>((resolve) => {
        this.#onTaken = resolve;
      });
    }
  }

  /**
   * Queues a text message. Resolves true when the kernel has it, false when it was dropped because the connection failed. `isAscii`
   * promises that each character is one byte.
   */
  send(text: string, isAscii = false): Promise<boolean> {
    if (this.#isFailed) return Promise.resolve(false);
    this.#waitingCharacters += text.length;
    const flushed = new Promise<boolean>((resolve) => {
      this.#messages.push({ opcode: OPCODES.text, text, isAscii, bytes: null, onFlushed: resolve });
    });
    this.#run();
    return flushed;
  }

  /** Queues a frame in front of the messages that wait. Resolves like `send`. */
  sendControl(opcode: number, payload: Uint8Array | string): Promise<boolean> {
    if (this.#isFailed) return Promise.resolve(false);
    const isText = typeof payload === "string";
    const flushed = new Promise<boolean>((resolve) => {
      const content = isText ? { text: payload, bytes: null } : { text: null, bytes: payload };
      this.#control.push({ opcode, ...content, isAscii: false, onFlushed: resolve });
    });
    this.#run();
    return flushed;
  }

  /** Drops all messages that no write has begun for. */
  dropMessages(): void {
    const dropped = this.#messages.slice(this.#next);
    this.#messages = [];
    this.#next = 0;
    this.#waitingCharacters = 0;
    for (const item of dropped) item.onFlushed(false);
    this.#onTaken?.();
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
        let bytes = batch.bytes;
        while (bytes.length > 0) bytes = bytes.subarray(await this.#write(bytes));
        for (const item of batch.items) item.onFlushed(true);
        this.#onTaken?.();
      }
      this.#isRunning = false;
    } catch {
      // The reading side reports why the connection failed; here only nobody may go on waiting.
      this.#isFailed = true;
      for (const item of [...(batch?.items ?? []), ...this.#control.splice(0)]) item.onFlushed(false);
      this.dropMessages();
    }
  }

  /** Encodes as many waiting frames as fit; one that does not fit goes alone. Null when nothing waits. */
  #fillScratch(): { readonly bytes: Uint8Array<ArrayBuffer>; readonly items: readonly Outgoing[] } | null {
    const items: Outgoing[] = [];
    let used = 0;
    for (let item = this.#peek(); item !== undefined; item = this.#peek()) {
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
    if (this.#next < this.#messages.length) return;
    this.#messages = [];
    this.#next = 0;
  }

  /** Encodes one frame at `offset` of the scratch buffer and returns its length. */
  #encode(item: Outgoing, offset: number): number {
    const room = this.#scratch.subarray(offset + MAX_HEADER_BYTES);
    let length: number;
    if (item.text === null) {
      const bytes = item.bytes ?? new Uint8Array();
      room.set(bytes);
      length = bytes.length;
    } else {
      length = encoder.encodeInto(item.text, room).written;
    }
    const header = encodeHeader(item.opcode, length);
    this.#scratch.set(header, offset);
    this.#scratch.copyWithin(offset + header.length, offset + MAX_HEADER_BYTES, offset + MAX_HEADER_BYTES + length);
    return header.length + length;
  }
}

function worstLength(item: Outgoing): number {
  if (item.text === null) return item.bytes?.length ?? 0;
  return item.text.length * (item.isAscii ? 1 : 3);
}

function encodeAlone(opcode: number, text: string): Uint8Array<ArrayBuffer> {
  // One buffer for header and text: measuring first would encode a text of megabytes twice.
  const buffer = new Uint8Array(MAX_HEADER_BYTES + text.length * (isOneByte(text) ? 1 : 3));
  const { written } = encoder.encodeInto(text, buffer.subarray(MAX_HEADER_BYTES));
  const header = encodeHeader(opcode, written);
  const start = MAX_HEADER_BYTES - header.length;
  buffer.set(header, start);
  return buffer.subarray(start, MAX_HEADER_BYTES + written);
}

/** True when every character is ASCII, so that the encoded length is the length. */
function isOneByte(text: string): boolean {
  return !/[^\0-\x7f]/.test(text);
}

/** The header of an unmasked final frame, with the length in its shortest form as RFC 6455 requires. */
function encodeHeader(opcode: number, length: number): Uint8Array {
  const first = 0x80 | opcode;
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
