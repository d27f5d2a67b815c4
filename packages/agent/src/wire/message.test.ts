import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../host/budget.ts";
import { type LargePayload, PayloadInMemory } from "./large-payload.ts";
import { LargeString, parseLargeJson } from "./large-string.ts";
import { MalformedMessageError, parseLargeMessage, parseMessage } from "./message.ts";

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

/** A large message in memory. */
function payloadOf(text: string): LargePayload {
  const content = Buffer.from(text);
  const payload = new PayloadInMemory(content.length, new Budget(content.length));
  payload.append(content);
  return payload;
}

async function parseLarge(text: string): Promise<unknown> {
  return (await parseLargeJson(payloadOf(text)))?.value;
}

async function concatenated(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(pieces));
}

test("a long text is the same whether it is read in pieces or parsed as usual", async () => {
  const plain = "ž".repeat(600_000);
  const cases = [
    plain,
    `${plain}"quoted"`,
    `${plain}\\`,
    `${plain}\n`,
    `\\"${plain}`,
    "line\n".repeat(300_000),
    "\\".repeat(1_100_000),
    `x${"😀".repeat(400_000)}`,
    `xy${"\ud800".repeat(400_000)}`,
    `\ufeff${plain}`,
  ];
  for (const content of cases) {
    const message = { jsonrpc: "2.0", id: 1, method: "m", params: { a: "\\\\", content, z: '"' } };
    // Escaped as Python does, so that pairs of escapes stand for one character.
    const ascii = JSON.stringify(message).replace(
      /[^\0-\x7f]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    for (const text of [JSON.stringify(message), ascii]) {
      const { params } = (await parseLarge(text)) as { params: { a: string; content: unknown; z: string } };
      assert.ok(params.content instanceof LargeString);
      assert.ok((await concatenated(params.content.utf8())).equals(Buffer.from(content)));
      assert.ok(Buffer.from(await params.content.text()).equals(Buffer.from(content)));
      assert.deepEqual([params.a, params.z], ["\\\\", '"']);
    }
  }
});

test("a long string that is not a parameter is parsed as usual", async () => {
  const long = "x".repeat(2_000_000);
  const value = { jsonrpc: "2.0", id: long, method: "m", params: { inner: { content: long } } };
  assert.deepEqual(await parseLarge(JSON.stringify(value)), value);
});

test("a large message that is no JSON closes the connection as a small one does, and one with too much of it too", async () => {
  const broken = payloadOf(`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"${"x".repeat(1_100_000)}"`);
  await assert.rejects(parseLargeMessage(broken), { closeCode: 4000 });
  const raw = payloadOf(`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":["${"x".repeat(1_100_000)}\n"]}}`);
  await assert.rejects(parseLargeMessage(raw), { closeCode: 4000 });
  const many = payloadOf(`{"jsonrpc":"2.0","id":1,"method":"m","params":[${"1,".repeat(17_000_000)}1]}`);
  await assert.rejects(parseLargeMessage(many), { closeCode: 1009 });
});
