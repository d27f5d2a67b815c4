import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeFrame, FRAME, FRAME_BYTES_MAX, FrameReader } from "./session-frames.ts";

test("frames come out whole, in whatever pieces they come in", () => {
  const sent = [
    { type: FRAME.inputEnd, payload: new Uint8Array(0) },
    { type: FRAME.output, payload: Uint8Array.from({ length: 1000 }, (_, index) => index % 251) },
    { type: FRAME.signal, payload: new TextEncoder().encode("TERM") },
  ];
  const bytes = Buffer.concat(sent.map(({ type, payload }) => encodeFrame(type, payload)));
  for (const size of [1, 3, 5, 7, 64, bytes.length]) {
    const reader = new FrameReader();
    const received = [];
    for (let offset = 0; offset < bytes.length; offset += size)
      received.push(...reader.read(bytes.subarray(offset, offset + size)));
    assert.deepEqual(received, sent, `in pieces of ${size}`);
  }
});

test("a frame that is too long is refused before room is made for it", () => {
  const head = new Uint8Array(5);
  new DataView(head.buffer).setUint32(1, FRAME_BYTES_MAX + 1);
  assert.throws(() => [...new FrameReader().read(head)], RangeError);
});
