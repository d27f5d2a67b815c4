import assert from "node:assert/strict";
import { test } from "node:test";
import { OPCODES } from "./frame-reader.ts";
import { FrameWriter } from "./frame-writer.ts";

/** A sink that takes bytes when it is let, at most `most` at a time, and reads what it took as frames of a server. */
class Sink {
  readonly messages: string[] = [];
  readonly controls: string[] = [];
  writes = 0;
  isOpen: boolean;
  readonly #most: number;
  #bytes: Buffer = Buffer.alloc(0);
  #wake = () => {};

  constructor(isOpen = true, most = Number.POSITIVE_INFINITY) {
    this.isOpen = isOpen;
    this.#most = most;
  }

  readonly write = async (bytes: Uint8Array): Promise<number> => {
    this.writes += 1;
    while (!this.isOpen) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const count = Math.min(bytes.length, this.#most);
    this.#bytes = Buffer.concat([this.#bytes, bytes.subarray(0, count)]);
    while (this.#takeFrame());
    return count;
  };

  open(): void {
    this.isOpen = true;
    this.#wake();
  }

  #takeFrame(): boolean {
    const bytes = this.#bytes;
    const short = (bytes[1] ?? 0) & 0x7f;
    const headerBytes = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (bytes.length < headerBytes) return false;
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
    if (bytes.length < headerBytes + length) return false;
    assert.ok(
      headerBytes === 2 || length >= (headerBytes === 4 ? 126 : 65_536),
      "the length is not in its shortest form",
    );
    const content = String(bytes.subarray(headerBytes, headerBytes + length));
    if (bytes[0] === 0x81) this.messages.push(content);
    else this.controls.push(`${bytes[0]} ${content}`);
    this.#bytes = bytes.subarray(headerBytes + length);
    return true;
  }
}

test("texts of every length arrive as they were sent, also when the kernel takes them in small pieces", async () => {
  const sink = new Sink(true, 777);
  const writer = new FrameWriter(sink.write);
  const texts = [0, 1, 125, 126, 65_535, 65_536, 100_000, 300_000].flatMap((length) => [
    "x".repeat(length),
    "ž€😀".repeat(length / 3),
  ]);
  await Promise.all(texts.map((text) => writer.send(text)));
  assert.deepEqual(sink.messages, texts);
});

test("what one turn sends leaves in one write", async () => {
  const sink = new Sink();
  const writer = new FrameWriter(sink.write);
  await Promise.all([writer.send("start"), writer.send("data", true), writer.send("end")]);
  assert.deepEqual(sink.messages, ["start", "data", "end"]);
  assert.equal(sink.writes, 1);
});

test("control frames overtake messages that wait", async () => {
  const sink = new Sink(false);
  const writer = new FrameWriter(sink.write);
  const sent = Array.from({ length: 20 }, (_, index) => writer.send(`${index}`.padEnd(60_000)));
  await new Promise((resolve) => setImmediate(resolve));
  const control = writer.sendControl(OPCODES.ping, new Uint8Array([65]));
  const last = sent.at(-1)?.then(() => sink.controls.slice());
  sink.open();
  await control;
  assert.ok(sink.messages.length < 20, "the ping waited for all messages");
  assert.deepEqual(await last, [`${0x80 | OPCODES.ping} A`]);
});

test("room waits until few enough characters are left", async () => {
  const sink = new Sink(false);
  const writer = new FrameWriter(sink.write);
  for (let index = 0; index < 30; index += 1) void writer.send("x".repeat(100_000));
  let hasRoom = false;
  const room = writer.room(1_000_000).then(() => (hasRoom = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(hasRoom, false);
  sink.open();
  await room;
});

test("when the connection fails nobody goes on waiting, and later texts are dropped", async () => {
  const writer = new FrameWriter(async () => {
    throw new Error("broken");
  });
  const results = await Promise.all([writer.send("a"), writer.send("b"), writer.sendControl(OPCODES.ping, "")]);
  assert.deepEqual(results, [false, false, false]);
  assert.equal(await writer.send("c"), false);
  await writer.room(0);
});
