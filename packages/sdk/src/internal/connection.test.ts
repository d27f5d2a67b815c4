import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { FakeSandbox, RUNNING_PROCESS } from "../../tests/fake-sandbox.ts";
import { poll } from "../../tests/poll.ts";
import { ConnectionClosedError, errors, RpcError, Sandbox } from "../index.ts";
import { Connection } from "./connection.ts";
import { openSocket } from "./socket.ts";

const MEBIBYTE = 2 ** 20;
/** An answer that is under way for two of them is none; everything here runs in one process, which a busy machine lets wait. */
const PING_INTERVAL_MS = 200;

/** Waits until a number stays the same for 20 turns of a busy event loop. */
async function standsStill(read: () => number): Promise<void> {
  let turns = 0;
  let before = read();
  await poll("the flow stands still", async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    turns = read() === before ? turns + 1 : 0;
    before = read();
    return turns >= 20;
  });
}

test("answers may come in any order", async () => {
  const waiting: (() => void)[] = [];
  await using fake = await FakeSandbox.start({
    envGet: ({ key }) =>
      new Promise((resolve) => {
        waiting.unshift(() => resolve(`value of ${key}`));
        if (waiting.length === 3) for (const answer of waiting) answer();
      }),
  });
  await using sandbox = await Sandbox.create(fake.options);
  const values = await Promise.all(["A", "B", "C"].map((key) => sandbox.env.get(key)));
  assert.deepEqual(values, ["value of A", "value of B", "value of C"]);
});

test("errors of the protocol and errors of the sandbox have their own classes and show where the call was made", async () => {
  await using fake = await FakeSandbox.start({ envGet: () => new Promise(() => undefined) });
  await using sandbox = await Sandbox.create(fake.options);
  const protocol = sandbox.env.get("A").catch((error) => error);
  const application = sandbox.env.get("B").catch((error) => error);
  const aggregate = sandbox.env.get("C").catch((error) => error);
  await poll("the calls arrived", () => fake.received.length === 3);
  fake.send({ jsonrpc: "2.0", id: 0, error: { code: -32601, message: "Method not found", data: { a: 1 } } });
  const cause = { constructorName: "TypeError", message: "inner" };
  const notFound = { constructorName: "NotFound", message: "No such file", code: "ENOENT", cause };
  fake.send({ jsonrpc: "2.0", id: 1, result: { error: notFound } });
  const both = { constructorName: "AggregateError", message: "all", errors: [notFound, cause] };
  fake.send({ jsonrpc: "2.0", id: 2, result: { error: both } });

  const first = await protocol;
  assert.ok(first instanceof RpcError);
  assert.deepEqual([first.code, first.message, first.data], [-32601, "Method not found", { a: 1 }]);
  const second = await application;
  assert.ok(second instanceof errors.NotFound);
  assert.deepEqual([second.name, second.message], ["NotFound", "No such file"]);
  assert.equal((second as Error & { code?: string }).code, "ENOENT");
  assert.ok(second.cause instanceof TypeError);
  assert.match(second.stack ?? "", /^NotFound: No such file\n {4}at .*connection\.test\.ts/s);
  const third = await aggregate;
  assert.ok(third instanceof AggregateError && third.errors[0] instanceof errors.NotFound);
});

test("a closed connection rejects what is pending and what comes after, and ends the streams", async () => {
  await using fake = await FakeSandbox.start({ ...RUNNING_PROCESS, envGet: () => new Promise(() => undefined) });
  const sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("cat", { stdin: "piped", stdout: "piped" });
  const writer = child.stdin?.getWriter();
  const reading = child.stdout?.getReader();
  fake.chunk(40, "before the end");
  const pending = sandbox.env.get("A");
  await poll("the call arrived", () => fake.received.some(({ method }) => method === "envGet"));
  fake.socket.close(1001, "the sandbox has ended");

  await assert.rejects(pending, { name: "ConnectionClosedError", code: 1001, reason: "the sandbox has ended" });
  await assert.rejects(child.status, ConnectionClosedError);
  assert.equal(Buffer.from((await reading?.read())?.value ?? []).toString(), "before the end");
  await assert.rejects(async () => await reading?.read(), ConnectionClosedError);
  await assert.rejects(async () => await writer?.write(new Uint8Array(1)), ConnectionClosedError);
  await assert.rejects(sandbox.env.get("A"), { name: "ConnectionClosedError", code: undefined });
  await sandbox.closed;
  await sandbox.close();
});

test("text that is not JSON and JSON that is no message close the connection with their codes", async () => {
  for (const [text, code] of [
    ["{", 4000],
    ["[1]", 4001],
    ['{"id":1}', 4001],
  ] as const) {
    await using fake = await FakeSandbox.start();
    const sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
    const closed = new Promise((resolve) => fake.socket.once("close", resolve));
    fake.socket.send(text);
    assert.equal(await closed, code, text);
    await sandbox.close();
  }
});

test("an aborted call rejects at once, and the sandbox is told", async () => {
  await using fake = await FakeSandbox.start({ readFile: () => new Promise(() => undefined) });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const controller = new AbortController();
  const call = sandbox.fs.readFile("large", { signal: controller.signal });
  await poll("the call arrived", () => fake.received.length === 1);
  controller.abort();
  await assert.rejects(call, { name: "AbortError" });
  await poll("the abort arrived", () => fake.received.length === 2);
  const [read, abort] = fake.received;
  assert.equal(abort?.method, "abort");
  assert.equal(abort?.params.abortId, read?.params.abortId);
  // An answer that was under way already is of no interest any more.
  fake.send({ jsonrpc: "2.0", id: read?.id, result: { ok: "" } });
  assert.equal(await sandbox.env.get("A"), undefined);
});

test("a signal that was aborted before the call sends nothing", async () => {
  await using fake = await FakeSandbox.start();
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const signal = AbortSignal.abort(new Error("too late"));
  await assert.rejects(sandbox.fs.readTextFile("a", { signal }), /too late/);
  await assert.rejects(sandbox.spawn("true", { signal }), /too late/);
  await assert.rejects(sandbox.fs.writeFile("a", new ReadableStream(), { signal }), /too late/);
  await assert.rejects(sandbox.fetch("http://localhost", { signal }), /too late/);
  await assert.rejects(sandbox.fs.stat("a", { signal }), /too late/);
  assert.deepEqual(fake.received, []);
});

test("a reader that stops early cancels, and what still arrives for the stream does no harm", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("yes", { stdout: "piped" });
  fake.notify("start", { streamId: 40 });
  fake.chunk(40, "y\n");
  fake.chunk(40, "y\n");
  for await (const chunk of child.stdout ?? []) {
    assert.equal(Buffer.from(chunk).toString(), "y\n");
    break;
  }
  await poll("the cancellation arrived", () => fake.received.some(({ method }) => method === "$sandbox.stream.cancel"));
  const cancel = fake.received.find(({ method }) => method === "$sandbox.stream.cancel");
  assert.deepEqual(cancel?.params, { streamId: 40, reason: null });
  fake.chunk(40, "y\n");
  fake.notify("end", { streamId: 40 });
  assert.equal(await sandbox.env.get("A"), undefined, "the connection goes on");
});

test("a stream that starts, runs and ends before anybody asks for it is complete", async () => {
  await using fake = await FakeSandbox.start({
    ...RUNNING_PROCESS,
    spawn: (_params, sandbox) => {
      sandbox.notify("start", { streamId: 40 });
      sandbox.chunk(40, "all of it");
      sandbox.notify("end", { streamId: 40 });
      return { pid: 7, stdoutStreamId: 40, stderrStreamId: null };
    },
  });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("true", { stdout: "piped" });
  assert.equal(await new Response(child.stdout).text(), "all of it");
});

test("an error at the end of a stream is thrown after its data was read", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("true", { stdout: "piped" });
  fake.chunk(40, "some");
  fake.notify("error", { streamId: 40, error: { constructorName: "BadResource", message: "gone" } });
  const reader = child.stdout?.getReader();
  assert.equal(Buffer.from((await reader?.read())?.value ?? []).toString(), "some");
  await assert.rejects(async () => await reader?.read(), { name: "BadResource" });
});

test("a stream can be read into a buffer of the caller", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("true", { stdout: "piped" });
  const reader = child.stdout?.getReader({ mode: "byob" });
  const first = reader?.read(new Uint8Array(4));
  fake.chunk(40, "abcdef");
  assert.equal(Buffer.from((await first)?.value ?? []).toString(), "abcd");
  assert.equal(Buffer.from((await reader?.read(new Uint8Array(4)))?.value ?? []).toString(), "ef");
  const last = reader?.read(new Uint8Array(4));
  fake.notify("end", { streamId: 40 });
  assert.equal((await last)?.done, true);
});

test("when the sandbox wants no more input, writing fails with BrokenPipe", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("true", { stdin: "piped", stdout: "null" });
  const writer = child.stdin?.getWriter();
  const [spawn] = fake.received.filter(({ method }) => method === "spawn");
  fake.notify("cancel", { streamId: spawn?.params.stdinStreamId, reason: null });
  await assert.rejects(async () => await writer?.closed, errors.BrokenPipe);
  await assert.rejects(async () => await writer?.write(new Uint8Array(1)), errors.BrokenPipe);
});

test("a slow reader stops the flow, a call gets its answer nevertheless, and reading on starts it again", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("yes", { stdout: "piped" });
  const reader = child.stdout?.getReader();
  const chunk = new Uint8Array(MEBIBYTE);
  fake.chunk(40, chunk);
  await reader?.read();
  // More than the two sockets between the programs can hold, so that what is not read stays on the other side.
  const total = 64;
  for (let index = 1; index < total; index += 1) fake.chunk(40, chunk);
  await standsStill(() => fake.socket.bufferedAmount);
  assert.ok(fake.socket.bufferedAmount > 16 * MEBIBYTE, `${fake.socket.bufferedAmount} bytes wait at the sender`);
  assert.equal(await sandbox.env.get("A"), undefined, "the answer lies behind the data and is fetched");
  for (let received = MEBIBYTE; received < total * MEBIBYTE; )
    received += (await reader?.read())?.value?.byteLength ?? 0;
  assert.equal(fake.socket.bufferedAmount, 0);
});

test("output that nobody reads does not stop the flow", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("yes", { stdout: "piped" });
  await poll("the client waits for the end", () => fake.received.some(({ method }) => method === "processWait"));
  for (let index = 0; index < 64; index += 1) fake.chunk(40, new Uint8Array(MEBIBYTE));
  const wait = fake.received.find(({ method }) => method === "processWait");
  fake.send({ jsonrpc: "2.0", id: wait?.id, result: { ok: { success: true, code: 0, signal: null, oom: null } } });
  assert.equal((await child.status).success, true);
});

test("a writer waits while too much is on its way", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("cat", { stdin: "piped", stdout: "null" });
  fake.socket.pause();
  const writer = child.stdin?.getWriter();
  let written = 0;
  const writing = (async () => {
    for (; written < 64; written += 1) await writer?.write(new Uint8Array(MEBIBYTE));
  })();
  await standsStill(() => written);
  assert.ok(written < 32, `${written} MiB were taken without being read`);
  fake.socket.resume();
  await writing;
});

test("a peer that gives no sign of life is given up, one that only answers pings is not", async () => {
  await using fake = await FakeSandbox.start({ envGet: () => new Promise(() => undefined) });
  const url = new URL(fake.options.sandboxEndpoint);
  const open = () =>
    openSocket({ url, headers: {}, timeoutMs: 5_000 }, (socket) => new Connection(socket, PING_INTERVAL_MS));
  const living = await open();
  let pings = 0;
  fake.socket.on("ping", () => {
    pings += 1;
  });
  await poll("six pings arrived", () => pings >= 6);
  assert.equal(living.isClosed, false);
  await living.close();

  const silent = await open();
  fake.socket.pause();
  await assert.rejects(silent.call("envGet", { key: "A" }), { name: "ConnectionClosedError", code: 1006 });
});

test("a peer that asks for signs of life itself is not given up, however much waits to be sent to it", (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  let isGivenUp = false;
  const socket = Object.assign(new EventEmitter(), {
    // A writer adds as much as the peer takes.
    bufferedAmount: MEBIBYTE,
    ping: () => undefined,
    terminate: () => {
      isGivenUp = true;
    },
  });
  new Connection(socket as unknown as ConstructorParameters<typeof Connection>[0], 20);
  for (let count = 0; count < 10; count += 1) {
    context.mock.timers.tick(40);
    socket.emit("ping");
  }
  assert.equal(isGivenUp, false);
  context.mock.timers.tick(60);
  assert.equal(isGivenUp, true);
});

test("a peer that reads on is not given up, however late the answers come that lie behind what it reads", (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  let isGivenUp = false;
  const socket = Object.assign(new EventEmitter(), {
    bufferedAmount: 10 * MEBIBYTE,
    ping: () => undefined,
    terminate: () => {
      isGivenUp = true;
    },
  });
  new Connection(socket as unknown as ConstructorParameters<typeof Connection>[0], 20);
  for (; socket.bufferedAmount > 0; socket.bufferedAmount -= MEBIBYTE) context.mock.timers.tick(20);
  assert.equal(isGivenUp, false);
  // It has all, and says nothing.
  context.mock.timers.tick(60);
  assert.equal(isGivenUp, true);
});
