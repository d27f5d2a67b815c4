/** Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), which OpenSSH and all others speak. */
export const REQUEST = {
  init: 1,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  lstat: 7,
  fstat: 8,
  setStat: 9,
  setFileStat: 10,
  openDirectory: 11,
  readDirectory: 12,
  remove: 13,
  makeDirectory: 14,
  removeDirectory: 15,
  realPath: 16,
  stat: 17,
  rename: 18,
  readLink: 19,
  symlink: 20,
  extended: 200,
} as const;

export const ANSWER = {
  version: 2,
  status: 101,
  handle: 102,
  data: 103,
  names: 104,
  attributes: 105,
  extended: 201,
} as const;

export const STATUS = {
  ok: 0,
  endOfFile: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  badMessage: 5,
  notSupported: 8,
} as const;

export const OPEN_FLAG = { read: 1, write: 2, append: 4, create: 8, truncate: 16, exclusive: 32 } as const;

/** As OpenSSH's. */
export const PACKET_BYTES_MAX = 256 * 1024;

/** A packet that is none: the client has made a mistake. */
export class BadPacketError extends Error {}

/** Reads the fields of one packet. Every method throws `BadPacketError` where the packet is too short. */
export class PacketReader {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  uint8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  /** Throws also for a number that no file reaches. */
  uint64(): number {
    const value = this.#view.getBigUint64(this.#take(8));
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new BadPacketError("A number is too large");
    return Number(value);
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const length = this.uint32();
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }

  #take(count: number): number {
    const start = this.#offset;
    if (start + count > this.#bytes.length) throw new BadPacketError("A packet is too short");
    this.#offset = start + count;
    return start;
  }
}

/** Writes the fields of one packet. */
export class PacketWriter {
  #bytes = new Uint8Array(1024);
  #used = 4;

  uint8(value: number): this {
    const offset = this.#room(1);
    this.#bytes[offset] = value;
    return this;
  }

  uint32(value: number): this {
    const offset = this.#room(4);
    new DataView(this.#bytes.buffer).setUint32(offset, value);
    return this;
  }

  uint64(value: number | bigint): this {
    const offset = this.#room(8);
    new DataView(this.#bytes.buffer).setBigUint64(offset, BigInt(value));
    return this;
  }

  bytes(value: Uint8Array): this {
    this.uint32(value.length);
    const offset = this.#room(value.length);
    this.#bytes.set(value, offset);
    return this;
  }

  text(value: string): this {
    return this.bytes(new TextEncoder().encode(value));
  }

  get length(): number {
    return this.#used;
  }

  /** The packet with its length. */
  finish(): Uint8Array<ArrayBuffer> {
    new DataView(this.#bytes.buffer).setUint32(0, this.#used - 4);
    return this.#bytes.subarray(0, this.#used);
  }

  #room(count: number): number {
    const offset = this.#used;
    this.#used += count;
    if (this.#used > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#used));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return offset;
  }
}

/** Makes packets of what a client sends, in whatever pieces. */
export class PacketSplitter {
  #bytes = new Uint8Array(64 * 1024);
  #used = 0;

  /** The packets that are whole with these bytes, without their length: valid until the next call. Throws `BadPacketError` for one that is too long. */
  *split(bytes: Uint8Array): Generator<Uint8Array<ArrayBuffer>> {
    this.#append(bytes);
    const view = new DataView(this.#bytes.buffer);
    let start = 0;
    while (this.#used - start >= 4) {
      const length = view.getUint32(start);
      if (length === 0 || length > PACKET_BYTES_MAX) throw new BadPacketError(`A packet of ${length} bytes`);
      if (this.#used - start < 4 + length) break;
      yield this.#bytes.subarray(start + 4, start + 4 + length);
      start += 4 + length;
    }
    this.#bytes.copyWithin(0, start, this.#used);
    this.#used -= start;
  }

  #append(bytes: Uint8Array): void {
    if (this.#used + bytes.length > this.#bytes.length) {
      const larger = new Uint8Array((this.#used + bytes.length) * 2);
      larger.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#used);
    this.#used += bytes.length;
  }
}
