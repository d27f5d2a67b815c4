import assert from "node:assert/strict";
import { test } from "node:test";
import { LargeString, parseLargeJson } from "./large-string.ts";
import { MalformedMessageError, parseMessage } from "./message.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const parse = (value: unknown) => parseMessage(bytes(typeof value === "string" ? value : JSON.stringify(value)));

test("a request is recognised by its id, which may be zero, and key order is free", () => {
  assert.deepEqual(parse('{"params":{},"method":"m","jsonrpc":"2.0","id":0}'), {
    kind: "request",
    id: 0,
    method: "m",
    params: {},
  });
  assert.deepEqual(parse({ jsonrpc: "2.0", id: "a", method: "m" }), {
    kind: "request",
    id: "a",
    method: "m",
    params: undefined,
  });
});

test("ping is the only text that need not be JSON", () => {
  assert.deepEqual(parse("ping"), { kind: "ping" });
  for (const text of ["pong", "PING", "ping ", "", "{", "\u0000"]) {
    assert.throws(
      () => parse(text),
      (error) => error instanceof MalformedMessageError && error.closeCode === 4000,
      text,
    );
  }
});

test("bytes that are not UTF-8 are not JSON", () => {
  assert.throws(() => parseMessage(new Uint8Array([0x22, 0xff, 0x22])), { closeCode: 4000 });
});

test("JSON that is not JSON-RPC 2.0 is told apart from malformed JSON", () => {
  const values = [
    null,
    1,
    "x",
    [],
    {},
    { method: "m" },
    { jsonrpc: "1.0", id: 1, method: "m" },
    { jsonrpc: "2.0", id: 1, result: {} },
  ];
  const ids = [null, {}, true].map((id) => ({ jsonrpc: "2.0", id, method: "m" }));
  const streams = [
    { jsonrpc: "2.0", method: "$sandbox.stream.end", params: {} },
    { jsonrpc: "2.0", method: "$sandbox.stream.end" },
  ];
  for (const value of [...values, ...ids, ...streams]) {
    assert.throws(() => parse(JSON.stringify(value)), { closeCode: 4001 }, JSON.stringify(value));
  }
});

test("stream notifications are read, stream id zero included, and unknown notifications are ignored", () => {
  const stream = (name: string, params: unknown) =>
    parse({ jsonrpc: "2.0", method: `$sandbox.stream.${name}`, params });
  assert.deepEqual(stream("start", { streamId: 0 }), { kind: "stream", event: { kind: "start", id: 0 } });
  assert.deepEqual(stream("error", { streamId: 1, error: "plain" }), {
    kind: "stream",
    event: { kind: "error", id: 1, error: "plain" },
  });
  assert.deepEqual(stream("cancel", { streamId: 1, reason: null }), {
    kind: "stream",
    event: { kind: "cancel", id: 1 },
  });
  assert.deepEqual(parse({ jsonrpc: "2.0", method: "$other" }), { kind: "ignored" });
});

test("a long text is the same whether it is cut out or parsed as usual", () => {
  const plain = "ž".repeat(2_000_000);
  const cases = [plain, `${plain}"quoted"`, `${plain}\\`, `${plain}\n`, `\\"${plain}`];
  for (const content of cases) {
    const text = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "m", params: { a: "\\\\", content, z: '"' } });
    const { params } = parseLargeJson(bytes(text)) as { params: { a: string; content: unknown; z: string } };
    assert.ok(String(params.content) === content);
    assert.deepEqual([params.a, params.z], ["\\\\", '"']);
  }
});

test("a long string that is not a parameter is parsed as usual", () => {
  const long = "x".repeat(2_000_000);
  const value = { jsonrpc: "2.0", id: long, method: "m", params: { inner: { content: long } } };
  assert.deepEqual(parseLargeJson(bytes(JSON.stringify(value))), value);
  assert.ok(!((parseLargeJson(bytes(JSON.stringify(value))) as { id: unknown }).id instanceof LargeString));
});
