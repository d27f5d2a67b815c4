import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { test } from "node:test";
import { TestAgent } from "../../testing/test-agent.ts";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

const fixture = useAgent();
const PYTHON = { "user-agent": "Python/3.13 websockets/15.0.1" };

/** Memory of the agent that is its own, in MiB. */
function residentMib(agent: TestAgent): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${agent.process.pid}/status`, "utf8"))?.[1]) / 1024;
}

test("an unknown method answers exactly Method not found", async () => {
  const { client } = fixture;
  for (const name of ["download", "toString", "__proto__", ""]) {
    const answer = await client.answer(client.request(name, {}));
    assert.deepEqual(answer.error, { code: -32601, message: "Method not found" });
    assert.ok(!("result" in answer));
  }
});

test("wrong parameters answer a ZodError whose paths are texts", async () => {
  const { client } = fixture;
  const issues = async (method: string, params: unknown) => {
    const { error } = await client.answer(client.request(method, params));
    const data = error?.data as { constructorName: string; message: string };
    assert.deepEqual([error?.code, data.constructorName], [-32602, "ZodError"]);
    return JSON.parse(data.message);
  };
  assert.deepEqual(await issues("readFile", {}), [
    {
      expected: "string",
      code: "invalid_type",
      path: ["path"],
      message: "Invalid input: expected string, received undefined",
    },
  ]);
  const several = await issues("spawn", { command: 1, args: ["a", 2], stdout: "loud", stderr: "null" });
  assert.deepEqual(several.map(({ path }: { path: string[] }) => path.join(".")).sort(), [
    "args.1",
    "command",
    "stdout",
  ]);
  for (const issue of several) {
    assert.ok(
      typeof issue.expected === "string" && typeof issue.code === "string" && typeof issue.message === "string",
    );
  }
  assert.equal((await issues("envGet", null))[0].path[0], "key");
  assert.equal((await issues("envGet", []))[0].expected, "object");
  assert.equal((await issues("fileWrite", { fileHandleId: 1, data: "%" }))[0].path[0], "data");
});

test("ids come back with their value and type, zero and texts included", async () => {
  await using client = await RpcClient.connect(fixture.agent.socketPath);
  for (const id of [0, "0", "a-b", 7]) {
    client.send(JSON.stringify({ params: { key: "HOME" }, id, method: "envGet", jsonrpc: "2.0" }));
    const frame = await client.until(
      () => client.frames.find((each) => (each.id as unknown) === id),
      `an answer to ${id}`,
    );
    assert.equal(frame.result?.ok, fixture.agent.home);
  }
});

test("requests run at the same time and answers come when they are ready", async () => {
  const { client } = fixture;
  const spawned = (await client.ok("spawn", { command: "sleep", args: ["60"], stdout: "null", stderr: "null" })) as {
    pid: number;
  };
  const waiting = client.request("processWait", spawned);
  await client.ok("envGet", { key: "HOME" });
  assert.ok(!client.frames.some(({ id }) => id === waiting));
  await client.ok("processKill", spawned);
  await client.answer(waiting);
});

test("a message that is not JSON closes with 4000, one that is not JSON-RPC with 4001, a broken frame with 1002", async () => {
  for (const [text, code] of [
    ["nonsense", 4000],
    ["{}", 4001],
    ['{"jsonrpc":"2.0","id":null,"method":"m"}', 4001],
  ] as const) {
    const client = await RpcClient.connect(fixture.agent.socketPath);
    client.send(text);
    assert.equal((await client.closed).code, code, text);
  }
  const client = await RpcClient.connect(fixture.agent.socketPath);
  client.socket.send("unmasked", { mask: false });
  assert.equal((await client.closed).code, 1002);
});

test("a binary message that holds JSON is read like a text", async () => {
  const { client } = fixture;
  client.socket.send(
    Buffer.from(JSON.stringify({ jsonrpc: "2.0", id: 700_000, method: "envGet", params: { key: "HOME" } })),
  );
  assert.equal((await client.answer(700_000)).result?.ok, fixture.agent.home);
});

test("a close with or without a code is completed with the same, and the agent ends the connection", async () => {
  for (const code of [undefined, 1000, 4242]) {
    const client = await RpcClient.connect(fixture.agent.socketPath);
    client.socket.close(code);
    assert.equal((await client.closed).code, code ?? 1005);
    assert.equal(await client.isEndedByAgent, true);
  }
});

test("protocol pings are answered with their payload, also while much is being sent", async () => {
  await using client = await RpcClient.connect(fixture.agent.socketPath);
  const spawned = { command: "head", args: ["-c", "60000000", "/dev/zero"], stdout: "piped", stderr: "null" };
  const { pid, stdoutStreamId } = (await client.ok("spawn", spawned)) as { pid: number; stdoutStreamId: number };
  void client.request("processWait", { pid });
  await client.until(() => client.stream(stdoutStreamId)[1], "the first chunk");
  client.socket.ping("marker");
  const [payload] = await once(client.socket, "pong");
  assert.equal(String(payload), "marker");
  assert.notEqual(client.stream(stdoutStreamId).at(-1)?.kind, "end");
});

test("a client that stops answering pings is closed after two, and a quiet one that answers is not", async () => {
  await using agent = await TestAgent.start({ env: { CAISSON_AGENT_PING_MS: "1000" } });
  const quiet = await RpcClient.connect(agent.socketPath);
  const dead = await RpcClient.connect(agent.socketPath, {}, { autoPong: false });
  let pings = 0;
  dead.socket.on("ping", () => {
    pings += 1;
  });
  assert.equal((await dead.closed).code, 1001);
  assert.equal(pings, 2);
  assert.equal(await quiet.ok("envGet", { key: "HOME" }), agent.home);
  await quiet.close();
});

/** A client that has asked for the upgrade, and sent the beginning of a frame behind that. */
function openHalfFrame(agent: TestAgent) {
  const socket = connect(agent.socketPath);
  const key = randomBytes(16).toString("base64");
  const upgrade = `GET /rpc HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`;
  const request = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"envGet","params":{"key":"HOME"}}');
  assert.ok(request.length < 126);
  // Masked with zeroes.
  const header = Buffer.from([0x81, 0x80 | request.length, 0, 0, 0, 0]);
  socket.write(Buffer.concat([Buffer.from(upgrade), header, request.subarray(0, 10)]));
  let received = Buffer.alloc(0);
  socket.on("data", (bytes: Buffer) => {
    received = Buffer.concat([received, bytes]);
  });
  return {
    socket,
    rest: request.subarray(10),
    hasReceived: (text: string) => received.includes(text),
    /** Empty pings of the agent. */
    countPings: () => received.toString("latin1").split("\x89\x00").length - 1,
  };
}

test("a client that stands still in the middle of a frame, behind which its answers are, has ten times as long and goes on", async () => {
  await using agent = await TestAgent.start({ env: { CAISSON_AGENT_PING_MS: "500" } });
  const { socket, rest, hasReceived, countPings } = openHalfFrame(agent);
  await eventually("more pings than a client may leave unanswered", () => countPings() > 4);
  socket.write(rest);
  await eventually("the answer", () => hasReceived(agent.home));
  // Between frames it has two.
  await once(socket, "close");
  socket.destroy();
});

test("a client that stands still in the middle of a frame for twenty pings is closed", async () => {
  await using agent = await TestAgent.start({ env: { CAISSON_AGENT_PING_MS: "50" } });
  const { socket, countPings } = openHalfFrame(agent);
  await once(socket, "close");
  assert.ok(countPings() >= 20, `${countPings()} pings`);
});

test("abort always answers ok, and what it aborts answers an AbortError", async () => {
  const { client } = fixture;
  for (const abortId of [0, 123_456, 0]) assert.equal(await client.ok("abort", { abortId }), null);
  client.notify("$sandbox.stream.start", { streamId: 31 });
  const writing = client.request("writeFile", { path: "never.txt", contentStreamId: 31, abortId: 0 });
  client.notify("$sandbox.stream.enqueue", { streamId: 31, data: "aGk=" });
  assert.equal(await client.ok("abort", { abortId: 0 }), null);
  const { error } = (await client.answer(writing)).result ?? {};
  assert.deepEqual([error?.constructorName, error?.name], ["DOMException", "AbortError"]);
  await client.until(() => client.stream(31).find(({ kind }) => kind === "cancel"), "the cancel of its stream");
  assert.equal(await client.ok("abort", { abortId: 0 }), null);
});

test("a client's stream may fail with an object, a text or null, and its reader fails with that", async () => {
  const { client } = fixture;
  const reasons = [{ constructorName: "TypeError", message: "mine" }, "mine", null];
  for (const [index, error] of reasons.entries()) {
    const streamId = 40 + index;
    client.notify("$sandbox.stream.start", { streamId });
    const writing = client.request("writeFile", { path: "failed.txt", contentStreamId: streamId });
    client.notify("$sandbox.stream.error", { streamId, error });
    const failure = (await client.answer(writing)).result?.error;
    assert.equal(failure?.constructorName, index === 0 ? "TypeError" : "Error");
    assert.match(failure?.message ?? "", error === null ? /client/ : /mine/);
  }
});

test("data that is not base64 fails its stream and not the connection", async () => {
  const { client } = fixture;
  client.notify("$sandbox.stream.start", { streamId: 50 });
  const writing = client.request("writeFile", { path: "failed.txt", contentStreamId: 50 });
  client.notify("$sandbox.stream.enqueue", { streamId: 50, data: "%%" });
  assert.match((await client.answer(writing)).result?.error?.message ?? "", /base64/);
});

test("a file of 256 MiB arrives in one message, exactly, for its own size of memory and the message's", async () => {
  await using agent = await TestAgent.start();
  await using client = await RpcClient.connect(agent.socketPath);
  const content = Buffer.alloc(256 * 1024 * 1024, "0123456789abcde\u0000", "latin1");
  client.notify("$sandbox.stream.start", { streamId: 1 });
  const writing = client.request("writeFile", { path: "large.bin", contentStreamId: 1 });
  client.notify("$sandbox.stream.enqueue", { streamId: 1, data: content.toString("base64") });
  client.notify("$sandbox.stream.end", { streamId: 1 });
  let peakMib = 0;
  const watch = setInterval(() => {
    peakMib = Math.max(peakMib, residentMib(agent));
  }, 20);
  assert.deepEqual((await client.answer(writing)).result, { ok: null });
  clearInterval(watch);
  assert.ok(readFileSync(`${agent.home}/large.bin`).equals(content));
  assert.ok(peakMib < 600, `the agent took ${peakMib} MiB`);
});

test("an answer that the client could not receive becomes an error that says what to do", async () => {
  await using python = await RpcClient.connect(fixture.agent.socketPath, PYTHON);
  const content = "x".repeat(1_100_000);
  await python.ok("writeTextFile", { path: "large.txt", content });
  const error = await python.failure("readTextFile", { path: "large.txt" });
  assert.match(error.message, /1048576 bytes.*open\(\)/);
  assert.equal(await fixture.client.ok("readTextFile", { path: "large.txt" }), content);
});

test("a reader that stalls bounds the agent's memory, whatever a process prints, and loses nothing", async () => {
  await using agent = await TestAgent.start();
  await using client = await RpcClient.connect(agent.socketPath);
  const spawned = {
    command: "sh",
    args: ["-c", "head -c 100000000 /dev/zero; touch done"],
    stdout: "piped",
    stderr: "null",
  };
  const { pid, stdoutStreamId } = (await client.ok("spawn", spawned)) as { pid: number; stdoutStreamId: number };
  void client.request("processWait", { pid });
  await client.until(() => client.stream(stdoutStreamId)[1], "the first chunk");
  client.socket.pause();
  const before = client.frames.length;
  const samples: number[] = [];
  await eventually("memory has settled", async () => {
    samples.push(residentMib(agent));
    return samples.length > 100 && Math.abs((samples.at(-1) ?? 0) - (samples.at(-50) ?? 0)) < 1;
  });
  assert.ok(Math.max(...samples) < 100, `the agent took ${Math.max(...samples)} MiB`);
  assert.ok(client.frames.length - before < 10, "the client was not stalled");
  client.socket.resume();
  const chunks = await client.chunks(stdoutStreamId);
  assert.equal(
    chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    100_000_000,
  );
});

test("a client that sends more than a process reads is held back and not buffered without end", async () => {
  await using agent = await TestAgent.start();
  await using client = await RpcClient.connect(agent.socketPath);
  client.notify("$sandbox.stream.start", { streamId: 1 });
  const spawned = { command: "sh", args: ["-c", "while [ ! -e go ]; do sleep 0.01; done; wc -c"], stdinStreamId: 1 };
  const { pid, stdoutStreamId } = (await client.ok("spawn", { ...spawned, stdout: "piped", stderr: "null" })) as {
    pid: number;
    stdoutStreamId: number;
  };
  await using other = await RpcClient.connect(agent.socketPath);
  const data = Buffer.alloc(1_000_000).toString("base64");
  for (let index = 0; index < 200; index += 1) client.notify("$sandbox.stream.enqueue", { streamId: 1, data });
  client.notify("$sandbox.stream.end", { streamId: 1 });
  void client.request("processWait", { pid });
  await eventually("the agent has stopped reading", async () => {
    const before = client.socket.bufferedAmount;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return before > 0 && client.socket.bufferedAmount === before;
  });
  assert.ok(residentMib(agent) < 200, `the agent took ${residentMib(agent)} MiB`);
  await other.ok("writeTextFile", { path: "go", content: "" });
  assert.equal(String(Buffer.concat(await client.chunks(stdoutStreamId))).trim(), "200000000");
});

test("stop closes every connection with 1001 and the reason, answers Python's calls first, and lets nobody in", async () => {
  await using agent = await TestAgent.start();
  const clients = [
    await RpcClient.connect(agent.socketPath),
    await RpcClient.connect(agent.socketPath, PYTHON),
  ] as const;
  const waiting: number[] = [];
  for (const client of clients) {
    const spawned = (await client.ok("spawn", {
      command: "sleep",
      args: ["60"],
      stdout: "null",
      stderr: "null",
    })) as object;
    waiting.push(client.request("processWait", spawned));
    await client.ok("envGet", { key: "HOME" });
  }
  const { status } = await agent.http("POST", "/stop?reason=the%20sandbox%20was%20killed");
  assert.equal(status, 200);
  for (const client of clients) assert.deepEqual(await client.closed, { code: 1001, reason: "the sandbox was killed" });
  const [javascript, python] = clients.map((client, index) => client.frames.find(({ id }) => id === waiting[index]));
  assert.equal(javascript, undefined);
  assert.equal(python?.error?.code, 1);
  await assert.rejects(RpcClient.connect(agent.socketPath), /503/);
});

test("stop is not held up by a client that reads nothing", async () => {
  await using agent = await TestAgent.start();
  const client = await RpcClient.connect(agent.socketPath);
  const spawned = { command: "cat", args: ["/dev/zero"], stdout: "piped", stderr: "null" };
  const { pid, stdoutStreamId } = (await client.ok("spawn", spawned)) as { pid: number; stdoutStreamId: number };
  void client.request("processWait", { pid });
  await client.until(() => client.stream(stdoutStreamId)[1], "the first chunk");
  client.socket.pause();
  assert.equal((await agent.http("POST", "/stop")).status, 200);
  client.socket.terminate();
});

test("other paths and upgrades that are none are refused", async () => {
  const { agent } = fixture;
  assert.equal((await agent.http("GET", "/health")).status, 200);
  assert.equal((await agent.http("GET", "/other")).status, 404);
  assert.equal((await agent.http("GET", "/stop")).status, 404);
  assert.equal((await agent.http("GET", "/rpc")).status, 426);
});

test("a name that nobody reserved cannot be exposed", async () => {
  const { client } = fixture;
  const unknown = await client.failure("exposeHttp", { domain: "a.example", port: 80 });
  assert.equal(unknown.constructorName, "NotFound");
  for (const params of [{ port: 0 }, { port: 65_536 }, {}, { port: 80, pid: 1 }]) {
    const error = await client.failure("exposeHttp", { domain: "a.example", ...params });
    assert.equal(error.constructorName, "TypeError");
  }
});

test("after everything the agent has said nothing on its own output", () => {
  assert.equal(fixture.agent.output, "");
});
