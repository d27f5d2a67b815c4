import assert from "node:assert/strict";
import { test } from "node:test";
import { chunkMessageParts, decodedLength, findChunk } from "./chunk-message.ts";
import { NOTIFICATIONS } from "./rpc.ts";

const find = (text: string) => findChunk(Buffer.from(text));
const message = (streamId: number, data: string) =>
  JSON.stringify({ jsonrpc: "2.0", method: NOTIFICATIONS.streamEnqueue, params: { streamId, data } });

test("a chunk is found in the message that JSON makes of it, which its parts are too", () => {
  // The agent counts from a random number below 2^52 (protocol.md rule 1), which has 16 digits as a rule.
  for (const streamId of [0, 7, 2 ** 49, 2 ** 52 - 1, Number.MAX_SAFE_INTEGER]) {
    for (const data of ["", "YQ==", "x".repeat(100_000)]) {
      const text = message(streamId, data);
      const [before, after] = chunkMessageParts(streamId);
      assert.equal(before + data + after, text);
      assert.deepEqual(find(text), { streamId, start: before.length, end: before.length + data.length });
    }
  }
});

test("every other message is left to the parser", () => {
  const text = message(12, "YWJj");
  const others = [
    "",
    "ping",
    text.slice(0, -1),
    `${text} `,
    text.replace(":12", ":012"),
    text.replace(":12", ":-1"),
    text.replace(":12", ":1.5"),
    text.replace(":12", ":"),
    text.replace(":12", `:${Number.MAX_SAFE_INTEGER + 1}`),
    text.replace(":12", `:${"9".repeat(16)}`),
    text.replace(":12", `:${"1".repeat(17)}`),
    text.replace("enqueue", "end"),
    text.replace(",", ", "),
    text.replace('"data"', '"date"'),
    text.replace("}}", "},}"),
    JSON.stringify({ jsonrpc: "2.0", id: 1, method: "m", params: {} }),
  ];
  for (const other of others) assert.equal(find(other), null, other);
});

test("text that is not base64 and nothing else is known by the length that a decoder gives", () => {
  const lengthOf = (data: string) => {
    const bytes = Buffer.from(message(1, data));
    const chunk = findChunk(bytes);
    assert.ok(chunk !== null);
    return decodedLength(bytes, chunk);
  };
  for (const length of [0, 1, 2, 3, 4, 100]) {
    const data = Buffer.alloc(length).toString("base64");
    assert.equal(lengthOf(data), length);
    assert.equal(lengthOf(data.replaceAll("=", "")), length);
    for (const blanks of [1, 2, 3, 4]) {
      const spaced = data.slice(0, 2) + " ".repeat(blanks) + data.slice(2);
      assert.notEqual(lengthOf(spaced), Buffer.from(spaced, "base64").length, `${length} bytes and ${blanks} blanks`);
    }
  }
});
