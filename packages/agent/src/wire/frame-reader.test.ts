import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Frame, FrameError, FrameReader, OPCODES } from "./frame-reader.ts";
import type { LargePayload } from "./large-payload.ts";

const MAX_BYTES = 3 * 1024 * 1024;

/** A place for large messages, with room for so many bytes. */
class Store implements LargePayload {
  readonly #pieces: Buffer[] = [];
  isReleased = false;

  get length(): number {
    return this.read().length;
  }

  append(bytes: Uint8Array): boolean {
    // The reader only lends its bytes.
    this.#pieces.push(Buffer.from(bytes));
    return true;
  }

  read(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(Buffer.concat(this.#pieces));
  }

  release(): void {
    this.isReleased = true;
  }
}

function contentOf(payload: Frame["payload"] | undefined): Buffer {
  return Buffer.from(payload instanceof Store ? payload.read() : payload instanceof Uint8Array ? payload : "");
}

interface FrameParts {
  readonly opcode: number;
  readonly payload: Uint8Array;
  readonly isFinal?: boolean;
  readonly isMasked?: boolean;
  readonly reservedBits?: number;
}

/** A frame as a client sends it. */
function frame({ opcode, payload, isFinal = true, isMasked = true, reservedBits = 0 }: FrameParts): Buffer {
  const { length } = payload;
  const header = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  header[0] = (isFinal ? 0x80 : 0) | reservedBits | opcode;
  header[1] = (isMasked ? 0x80 : 0) | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (header.length === 4) header.writeUInt16BE(length, 2);
  if (header.length === 10) header.writeBigUInt64BE(BigInt(length), 2);
  const mask = Buffer.from([0x12, 0x34, 0x56, 0x78]);
  if (!isMasked) return Buffer.concat([header, payload]);
  return Buffer.concat([header, mask, payload.map((byte, index) => byte ^ (mask[index & 3] ?? 0))]);
}

/** Reads the bytes in pieces of the given sizes, over and over, then ends. */
function readerOf(bytes: Buffer, sizes: readonly number[] = [bytes.length], leftover = 0): FrameReader {
  let offset = leftover;
  let turn = 0;
  const read = async (buffer: Uint8Array) => {
    if (offset === bytes.length) return null;
    const count = Math.min(sizes[turn % sizes.length] ?? 1, buffer.length, bytes.length - offset);
    turn += 1;
    buffer.set(bytes.subarray(offset, offset + count));
    offset += count;
    return count;
  };
  return new FrameReader(read, MAX_BYTES, bytes.subarray(0, leftover), async () => new Store());
}

const text = (content: string) => ({ opcode: OPCODES.text, payload: Buffer.from(content) });

test("messages of any length arrive whole however the bytes are cut", async () => {
  const lengths = fc.array(fc.oneof(fc.nat(300), fc.constantFrom(125, 126, 65_535, 65_536, 70_000, 200_000)), {
    maxLength: 6,
  });
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(1000, 65_536, 300_000)), {
    minLength: 1,
  });
  await fc.assert(
    fc.asyncProperty(lengths, sizes, fc.nat(), async (messageLengths, pieceSizes, leftover) => {
      const payloads = messageLengths.map((length, seed) => Buffer.alloc(length, `${seed}abcdefg`));
      const bytes = Buffer.concat(payloads.map((payload) => frame({ opcode: OPCODES.binary, payload })));
      const reader = readerOf(bytes, pieceSizes, Math.min(leftover, bytes.length, 65_536));
      for (const payload of payloads) {
        const received = await reader.next();
        assert.equal(received?.opcode, OPCODES.binary);
        assert.ok(payload.equals(contentOf(received.payload)));
      }
      assert.equal(await reader.next(), null);
    }),
    { numRuns: 60 },
  );
});

test("a large message arrives whole at the place that was found for it, and what follows it too", async () => {
  const payload = Buffer.from(Array.from({ length: 1_500_001 }, (_, index) => index % 251));
  for (const sizes of [[300_000], [7, 65_536], [100_001]]) {
    const reader = readerOf(Buffer.concat([frame({ opcode: OPCODES.text, payload }), frame(text("next"))]), sizes);
    const large = await reader.next();
    assert.ok(large?.payload instanceof Store && payload.equals(contentOf(large.payload)));
    assert.equal(String(contentOf((await reader.next())?.payload)), "next");
  }
});

test("fragments become one message, and control frames between them come out at once", async () => {
  const bytes = Buffer.concat([
    frame({ ...text("ab"), isFinal: false }),
    frame({ opcode: OPCODES.ping, payload: Buffer.from("p") }),
    frame({ opcode: OPCODES.continuation, payload: Buffer.from("cd"), isFinal: false }),
    frame({ opcode: OPCODES.continuation, payload: Buffer.from("") }),
    frame(text("next")),
  ]);
  const reader = readerOf(bytes, [1]);
  const received: string[] = [];
  for (let next = await reader.next(); next !== null; next = await reader.next()) {
    received.push(`${next.opcode} ${contentOf(next.payload)}`);
  }
  assert.deepEqual(received, ["9 p", "1 abcd", "1 next"]);
});

test("many small fragments become one large message, whose place is released when its end never comes", async () => {
  const fragment = (index: number, isFinal: boolean) =>
    frame({
      opcode: index === 0 ? OPCODES.text : OPCODES.continuation,
      payload: Buffer.alloc(60, `${index % 10}`),
      isFinal,
    });
  const count = 20_000;
  const fragments = Array.from({ length: count }, (_, index) => fragment(index, index === count - 1));
  const message = await readerOf(Buffer.concat(fragments), [60_000]).next();
  const content = contentOf(message?.payload);
  assert.equal(content.length, 60 * count);
  assert.equal(String(content.subarray(58, 62)), "0011");
  const stores: Store[] = [];
  const bytes = Buffer.concat(fragments.slice(0, -1));
  let offset = 0;
  const read = async (buffer: Uint8Array) => {
    if (offset === bytes.length) return null;
    const end = Math.min(bytes.length, offset + buffer.length);
    buffer.set(bytes.subarray(offset, end));
    const taken = end - offset;
    offset = end;
    return taken;
  };
  const hold = async () => {
    const store = new Store();
    stores.push(store);
    return store;
  };
  const reader = new FrameReader(read, MAX_BYTES, new Uint8Array(), hold);
  assert.equal(await reader.next(), null);
  reader.close();
  assert.deepEqual(
    stores.map((store) => store.isReleased),
    [true],
  );
});

test("a connection that ends inside a frame ends, without an error or half a message", async () => {
  const bytes = frame(text("hello"));
  for (let length = 0; length < bytes.length; length += 1) {
    assert.equal(await readerOf(bytes.subarray(0, length), [3]).next(), null, `after ${length} bytes`);
  }
});

test("what breaks RFC 6455 is refused with the code for it", async () => {
  const refusals: [string, Buffer, number][] = [
    ["no mask", frame({ ...text("x"), isMasked: false }), 1002],
    ["reserved bits", frame({ ...text("x"), reservedBits: 0x40 }), 1002],
    ["unknown opcode", frame({ opcode: 3, payload: Buffer.from("x") }), 1002],
    ["unknown control opcode", frame({ opcode: 11, payload: Buffer.from("x") }), 1002],
    ["fragmented control frame", frame({ opcode: OPCODES.ping, payload: Buffer.from("x"), isFinal: false }), 1002],
    ["long control frame", frame({ opcode: OPCODES.ping, payload: Buffer.alloc(126) }), 1002],
    ["continuation of nothing", frame({ opcode: OPCODES.continuation, payload: Buffer.from("x") }), 1002],
    ["message inside a message", Buffer.concat([frame({ ...text("x"), isFinal: false }), frame(text("y"))]), 1002],
    ["too large", frame({ opcode: OPCODES.text, payload: Buffer.alloc(MAX_BYTES + 1) }), 1009],
    [
      "too large in fragments",
      Buffer.concat([
        frame({ opcode: OPCODES.text, payload: Buffer.alloc(MAX_BYTES), isFinal: false }),
        frame({ opcode: OPCODES.continuation, payload: Buffer.from("x") }),
      ]),
      1009,
    ],
  ];
  for (const [what, bytes, closeCode] of refusals) {
    const reader = readerOf(bytes);
    const attempt = async () => {
      while ((await reader.next()) !== null);
    };
    await assert.rejects(attempt, (error) => error instanceof FrameError && error.closeCode === closeCode, what);
  }
});

test("a length beyond the limit is refused before memory is set aside for it", async () => {
  const bytes = frame({ opcode: OPCODES.text, payload: Buffer.alloc(70_000) });
  bytes.writeBigUInt64BE(2n ** 50n, 2);
  await assert.rejects(readerOf(bytes).next(), { closeCode: 1009 });
});
