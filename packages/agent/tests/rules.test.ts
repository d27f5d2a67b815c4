import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ONE_READ_BYTES } from "../src/wire/held-stream.ts";
import { TestAgent } from "../testing/test-agent.ts";
import { useAgent } from "./agent-fixture.ts";
import { eventually } from "./eventually.ts";
import { RpcClient } from "./rpc-client.ts";
import { StagedConnection } from "./staged-connection.ts";

/**
 * The rules of protocol.md section 0 that the agent keeps: 1 to 7. The others are the server's.
 */
const fixture = useAgent();

interface Spawned {
  readonly pid: number;
  readonly stdoutStreamId: number;
  readonly stderrStreamId: number;
}

async function spawn(client: RpcClient, script: string, params: object = {}): Promise<Spawned> {
  const options = { command: "sh", args: ["-c", script], stdout: "piped", stderr: "piped", ...params };
  return (await client.ok("spawn", options)) as Spawned;
}

function kinds(client: RpcClient, streamId: number): string {
  return client
    .stream(streamId)
    .map(({ kind }) => kind)
    .join(" ");
}

/** Answered requests in between prove that nothing else is on its way. */
async function roundTrips(client: RpcClient, count = 20): Promise<void> {
  for (let index = 0; index < count; index += 1) await client.ok("envGet", { key: "HOME" });
}

test("rule 1: stream ids are unique across sandboxes and connections", async () => {
  await using other = await TestAgent.start();
  await using second = await RpcClient.connect(fixture.agent.socketPath);
  await using third = await RpcClient.connect(other.socketPath);
  const ids: number[] = [];
  for (const client of [fixture.client, second, third]) {
    for (let index = 0; index < 20; index += 1) {
      const { stdoutStreamId, stderrStreamId } = await spawn(client, "true");
      ids.push(stdoutStreamId, stderrStreamId);
    }
  }
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(ids.every(Number.isSafeInteger));
  // Counting from one in every sandbox would pass the first check only by luck of the counters.
  assert.ok(Math.abs((ids[0] ?? 0) - (ids.at(-1) ?? 0)) > 1_000_000);
});

test("rule 2: no chunk is empty, whatever a process writes", async () => {
  const { client } = fixture;
  const silent = await spawn(client, "true");
  const chatty = await spawn(client, "printf ''; printf a; sleep 0.05; printf ''; printf b >&2; sleep 0.05; printf c");
  for (const { pid, stdoutStreamId, stderrStreamId } of [silent, chatty]) {
    await client.ok("processWait", { pid });
    for (const id of [stdoutStreamId, stderrStreamId]) {
      for (const chunk of await client.chunks(id)) assert.ok(chunk.length > 0);
    }
  }
  assert.equal(kinds(client, silent.stdoutStreamId), "start end");
  assert.equal(String(Buffer.concat(await client.chunks(chatty.stdoutStreamId))), "ac");
});

test("rule 3: after a cancel nothing more comes for the stream, and the process is not held up by it", async () => {
  const { client, directory } = fixture;
  const done = join(directory, "done");
  const { pid, stdoutStreamId, stderrStreamId } = await spawn(
    client,
    `head -c 30000000 /dev/zero; touch ${done}; echo over >&2`,
  );
  const waiting = client.request("processWait", { pid });
  await client.until(() => client.stream(stdoutStreamId).find(({ kind }) => kind === "enqueue"), "the first chunk");
  client.notify("$sandbox.stream.cancel", { streamId: stdoutStreamId, reason: null });
  // Answers come in order behind what was sent before the cancel was read.
  await client.ok("envGet", { key: "HOME" });
  const before = client.stream(stdoutStreamId).length;
  assert.equal((await client.answer(waiting)).result !== undefined, true);
  await client.chunks(stderrStreamId);
  await roundTrips(client);
  assert.ok(existsSync(done));
  assert.equal(client.stream(stdoutStreamId).length, before);
  assert.ok(!kinds(client, stdoutStreamId).includes("end"));
});

test("rule 3: a stream that is cancelled before it was released is never started", async () => {
  const { client, directory } = fixture;
  const done = join(directory, "done");
  const { pid, stdoutStreamId } = await spawn(client, `echo early; touch ${done}`);
  await eventually("the process has written", () => existsSync(done));
  client.notify("$sandbox.stream.cancel", { streamId: stdoutStreamId, reason: null });
  await client.ok("processWait", { pid });
  await roundTrips(client);
  assert.equal(kinds(client, stdoutStreamId), "");
});

test("rule 3: a longer stream ends when the client can have cancelled it, however slow it is, so that the two do not cross", async (t) => {
  await using connection = new StagedConnection(t, ONE_READ_BYTES, ONE_READ_BYTES);
  await connection.settle();
  await connection.takeWrite();
  await connection.takeWrite();
  await connection.answerPing();
  await connection.takeWrite();
  await connection.takeWrite();
  const data = ["result", "ping", "start enqueue enqueue", "ping"];
  await connection.passTime();
  assert.deepEqual(connection.writes, data, "the client has not said that it has the data");
  await connection.answerPing();
  assert.deepEqual(connection.writes, [...data, "ping"], "a cancel may be right behind the answer");
  await connection.takeWrite();
  await connection.passTime();
  assert.deepEqual(connection.writes, [...data, "ping"]);
  await connection.answerPing();
  assert.deepEqual(connection.writes, [...data, "ping", "end"]);
});

test("a client that has never answered a ping gets its streams all the same, after a while", async (t) => {
  await using connection = new StagedConnection(t, 1, 2);
  await connection.settle();
  await connection.takeWrite();
  await connection.takeWrite();
  assert.deepEqual(connection.writes, ["result", "ping"]);
  await connection.passTime();
  assert.deepEqual(connection.writes, ["result", "ping", "start enqueue enqueue end"]);
});

test("rule 4: output is held until processWait, also when the process has ended, and then it is whole", async () => {
  const { client, directory } = fixture;
  const done = join(directory, "done");
  const { pid, stdoutStreamId, stderrStreamId } = await spawn(client, `echo out; echo err >&2; touch ${done}`);
  await eventually("the process has written", () => existsSync(done));
  await roundTrips(client);
  assert.equal(kinds(client, stdoutStreamId) + kinds(client, stderrStreamId), "");
  await client.ok("processWait", { pid });
  assert.equal(String(Buffer.concat(await client.chunks(stdoutStreamId))), "out\n");
  assert.equal(String(Buffer.concat(await client.chunks(stderrStreamId))), "err\n");
  assert.equal(kinds(client, stdoutStreamId), "start enqueue end");
});

test("rule 4: a processWait of another connection does not release output that its owner is not ready for", async () => {
  const { client, agent } = fixture;
  await using other = await RpcClient.connect(agent.socketPath);
  const { pid, stdoutStreamId } = await spawn(client, "echo out");
  const status = await other.ok("processWait", { pid });
  assert.deepEqual(status, { success: true, code: 0, signal: null, oom: null });
  await roundTrips(client);
  assert.equal(kinds(client, stdoutStreamId), "");
  assert.equal(other.stream(stdoutStreamId).length, 0);
  await client.ok("processWait", { pid });
  await client.chunks(stdoutStreamId);
});

test("rule 4: more than 8 MiB opens the gate, less does not", async () => {
  const { client } = fixture;
  const small = await spawn(client, "head -c 8000000 /dev/zero; sleep 60", { stdinStreamId: openInput(client) });
  const large = await spawn(client, "head -c 9000000 /dev/zero", { stdinStreamId: openInput(client) });
  const bytes = Buffer.concat(await client.chunks(large.stdoutStreamId));
  assert.equal(bytes.length, 9_000_000);
  assert.equal(kinds(client, small.stdoutStreamId), "");
  await client.ok("processKill", { pid: small.pid, signal: "SIGKILL" });
});

let nextInput = 5_000;
function openInput(client: RpcClient): number {
  nextInput += 1;
  client.notify("$sandbox.stream.start", { streamId: nextInput });
  return nextInput;
}

test("rule 4: two seconds open the gate, but not while the client still sends input", async () => {
  const { client } = fixture;
  const startedAt = performance.now();
  const inputId = openInput(client);
  const closed = await spawn(client, "echo out");
  const open = await spawn(client, "echo out; cat", { stdinStreamId: inputId });
  await client.chunks(closed.stdoutStreamId);
  const first = client.stream(closed.stdoutStreamId)[0]?.frame.atMs ?? 0;
  assert.ok(first - startedAt >= 1_900, `released after ${first - startedAt} ms`);
  await roundTrips(client);
  assert.equal(kinds(client, open.stdoutStreamId), "");
  client.notify("$sandbox.stream.end", { streamId: inputId });
  await client.chunks(open.stdoutStreamId);
});

test("rule 5: the answer comes first, then start, data and exactly one end, each stream in order", async () => {
  const { client } = fixture;
  const pids = Array.from({ length: 30 }, (_, index) => {
    const script = `seq 1 ${index * 500}; echo x >&2`;
    return client.request("spawn", { command: "sh", args: ["-c", script], stdout: "piped", stderr: "piped" });
  });
  for (const request of pids) {
    const answer = await client.answer(request);
    const spawned = answer.result?.ok as Spawned;
    await client.ok("processWait", { pid: spawned.pid });
    for (const id of [spawned.stdoutStreamId, spawned.stderrStreamId]) {
      await client.chunks(id);
      assert.match(kinds(client, id), /^start( enqueue)* end$/);
      const start = client.stream(id)[0]?.frame;
      assert.ok(start !== undefined && client.frames.indexOf(start) > client.frames.indexOf(answer));
    }
  }
});

test("rule 5: a stream starts when the client has read the answer that names it, so that it reads them apart", async (t) => {
  await using connection = new StagedConnection(t, 1, 2);
  await connection.settle();
  await connection.takeWrite();
  await connection.takeWrite();
  assert.deepEqual(connection.writes, ["result", "ping"]);
  await connection.answerPing();
  // Whole already, so nobody can stop it early (protocol.md 3.5 point 5).
  assert.deepEqual(connection.writes, ["result", "ping", "start enqueue enqueue end"]);
});

test("rule 6: void results are ok null, and nullable members are there", async () => {
  const { client } = fixture;
  for (const [method, params] of [
    ["envSet", { key: "A", value: "1" }],
    ["envDelete", { key: "A" }],
    ["abort", { abortId: 0 }],
  ] as const) {
    const answer = await client.answer(client.request(method, params));
    assert.deepEqual(answer.result, { ok: null });
  }
  const spawned = await client.ok("spawn", { command: "true", stdout: "null", stderr: "null" });
  assert.deepEqual(Object.entries(spawned as object).slice(1), [
    ["stdoutStreamId", null],
    ["stderrStreamId", null],
  ]);
  const status = await client.ok("processWait", { pid: (spawned as Spawned).pid });
  assert.deepEqual(status, { success: true, code: 0, signal: null, oom: null });
  assert.equal(await client.ok("envGet", { key: "NOT_THERE" }), null);
});

test("rule 7: a text ping is answered with the text pong, and nothing else is ever not JSON", async () => {
  await using client = await RpcClient.connect(fixture.agent.socketPath);
  await roundTrips(client);
  assert.deepEqual(client.texts, []);
  client.send("ping");
  client.send("ping");
  await client.until(() => (client.texts.length === 2 ? true : undefined), "two pongs");
  assert.deepEqual(client.texts, ["pong", "pong"]);
});
