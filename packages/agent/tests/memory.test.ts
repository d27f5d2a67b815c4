import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import WebSocket from "ws";
import { TestAgent } from "../testing/test-agent.ts";
import { eventually } from "./eventually.ts";
import { MemoryCgroup } from "./memory-cgroup.ts";
import { RpcClient } from "./rpc-client.ts";
import { TestGateway } from "./test-gateway.ts";

/** However much clients ask for and send at once, the agent stays small: what does not fit waits, on the disk if it must. */

const MIB = 1024 * 1024;
/** Half of what the smallest sandbox has. */
const LIMIT_BYTES = 384 * MIB;

interface Limited extends AsyncDisposable {
  readonly agent: TestAgent;
  readonly client: RpcClient;
  readonly sandbox: Sandbox;
}

/** An agent with little memory, a bare client and an official one. Disposing fails when anything in there had to be killed. */
async function limited(limitBytes = LIMIT_BYTES): Promise<Limited> {
  const cgroup = new MemoryCgroup(limitBytes);
  // A client that is busy on a busy machine is not to count as gone.
  const env = { CAISSON_AGENT_PING_MS: "600000" };
  const agent = await TestAgent.start({ prefix: cgroup.prefix, env });
  const gateway = await TestGateway.start(agent.socketPath);
  const sandbox = await Sandbox.create(gateway.options);
  const client = await RpcClient.connect(agent.socketPath);
  return {
    agent,
    client,
    sandbox,
    async [Symbol.asyncDispose]() {
      const { kills } = cgroup;
      await client.close();
      await sandbox.close();
      await gateway[Symbol.asyncDispose]();
      await agent[Symbol.asyncDispose]();
      await cgroup[Symbol.asyncDispose]();
      assert.equal(kills, 0, "the kernel ended a process for want of memory");
    },
  };
}

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

test("eight files of 24 MB are read at once, whole, by the official client", async () => {
  await using at = await limited();
  const contents = Array.from({ length: 8 }, (_, index) => Buffer.alloc(24_000_000, `${index}abcdefg`));
  await Promise.all(contents.map((content, index) => writeFile(join(at.agent.home, `${index}`), content)));
  const read = await Promise.all(contents.map((_, index) => at.sandbox.fs.readFile(`${index}`)));
  assert.deepEqual(read.map(digest), contents.map(digest));
  const text = await Promise.all(contents.map((_, index) => at.sandbox.fs.readTextFile(`${index}`)));
  assert.deepEqual(
    text.map((content) => digest(Buffer.from(content))),
    contents.map(digest),
  );
});

test("eight files of 24 MB are written at once, each in one message", async () => {
  await using at = await limited();
  const contents = Array.from({ length: 8 }, (_, index) => new Uint8Array(Buffer.alloc(24_000_000, `${index}abcdefg`)));
  await Promise.all(contents.map((content, index) => at.sandbox.fs.writeFile(`${index}`, content)));
  const sums = await at.sandbox.sh`sha256sum 0 1 2 3 4 5 6 7`.text();
  assert.deepEqual(
    sums
      .trim()
      .split("\n")
      .map((line) => line.split(" ")[0]),
    contents.map(digest),
  );
});

test("20,000 reads that the client does not take wait, and another client is served meanwhile", async () => {
  await using at = await limited();
  await writeFile(join(at.agent.home, "a"), Buffer.alloc(20_000, "x"));
  const greedy = new WebSocket(`ws+unix://${at.agent.socketPath}:/rpc`);
  await once(greedy, "open");
  greedy.pause();
  let answers = 0;
  let whole = 0;
  greedy.on("message", (data) => {
    answers += 1;
    const { result, error } = JSON.parse(String(data));
    if (result?.ok.length === 26_668) whole += 1;
    else assert.match(error.message, /requests wait for an answer/);
  });
  const params = { path: "a" };
  for (let id = 0; id < 20_000; id += 1) {
    greedy.send(JSON.stringify({ jsonrpc: "2.0", id, method: "readFile", params }));
  }
  for (let round = 0; round < 20; round += 1) {
    assert.equal(String(await at.client.ok("readFile", { path: "a" })).length, 26_668);
  }
  greedy.resume();
  while (answers < 20_000 && greedy.readyState === WebSocket.OPEN) {
    await Promise.race([once(greedy, "message"), once(greedy, "close")]);
  }
  assert.equal(answers, 20_000);
  assert.ok(whole >= 16_000, `${whole} are answered with the file`);
  greedy.terminate();
});

test("output that nobody has asked for yet is bounded over all processes, and none of it is lost", async () => {
  await using at = await limited();
  const params = { command: "head", args: ["-c", "8000000", "/dev/zero"], stdout: "piped", stderr: "null" };
  const requests = Array.from({ length: 24 }, () => at.client.request("spawn", { ...params, stdinStreamId: null }));
  const answers = await Promise.all(requests.map((id) => at.client.answer(id)));
  for (const { result } of answers) {
    const { pid, stdoutStreamId } = Object(result).ok as { pid: number; stdoutStreamId: number };
    await at.client.ok("processWait", { pid });
    assert.equal(Buffer.concat(await at.client.chunks(stdoutStreamId)).length, 8_000_000);
  }
});

test("input for programs that read late waits on the disk, and other calls, a ping and a kill pass it", async () => {
  await using at = await limited();
  const late = await at.sandbox.spawn("sh", {
    args: ["-c", "while [ ! -e go ]; do sleep 0.1; done; sha256sum"],
    stdin: "piped",
    stdout: "piped",
  });
  const deaf = await at.sandbox.spawn("sleep", { args: ["1000"], stdin: "piped" });
  const content = Buffer.alloc(40 * MIB, "0123456789abcdef!");
  const feeds = [late, deaf].map(async ({ stdin }) => {
    const writer = stdin?.getWriter();
    for (let start = 0; start < content.length; start += MIB / 16) {
      await writer?.write(new Uint8Array(content.subarray(start, start + MIB / 16)));
    }
    await writer?.close();
  });
  // The official client queues without limit, so all that follows is behind the input.
  await Promise.all(feeds.map((feed) => feed.catch(() => undefined)));
  assert.equal(await at.sandbox.env.get("HOME"), at.agent.home);
  await deaf.kill("SIGKILL");
  assert.equal((await deaf.status).signal, "SIGKILL");
  await at.sandbox.fs.writeTextFile("go", "");
  const { stdoutText } = await late.output();
  assert.equal(stdoutText?.split(" ")[0], digest(content));
});

test("input in one large message, as Python sends it, arrives whole behind a program that reads late", async () => {
  await using at = await limited();
  const content = Buffer.alloc(40_000_001, "0123456789abcdef!");
  at.client.notify("$sandbox.stream.start", { streamId: 1 });
  const { pid, stdoutStreamId } = (await at.client.ok("spawn", {
    command: "sh",
    args: ["-c", "while [ ! -e go ]; do sleep 0.1; done; sha256sum"],
    stdinStreamId: 1,
    stdout: "piped",
    stderr: "null",
  })) as { pid: number; stdoutStreamId: number };
  at.client.notify("$sandbox.stream.enqueue", { streamId: 1, data: content.toString("base64") });
  at.client.notify("$sandbox.stream.enqueue", { streamId: 1, data: Buffer.from("end").toString("base64") });
  at.client.notify("$sandbox.stream.end", { streamId: 1 });
  await at.client.ok("writeTextFile", { path: "go", content: "" });
  await at.client.ok("processWait", { pid });
  const output = String(Buffer.concat(await at.client.chunks(stdoutStreamId)));
  assert.equal(output.split(" ")[0], digest(Buffer.concat([content, Buffer.from("end")])));
});

test("pings that are not answered to a client that takes nothing do not pile up", async () => {
  await using at = await limited();
  await using greedy = await RpcClient.connect(at.agent.socketPath);
  greedy.socket.pause();
  for (let count = 0; count < 2_000_000; count += 1) {
    greedy.send("ping");
    if (greedy.unsentBytes > MIB) break;
  }
  assert.ok(greedy.unsentBytes > 0, "the agent went on reading");
  assert.equal(await at.client.ok("envGet", { key: "HOME" }), at.agent.home);
  greedy.socket.terminate();
  await eventually("the connection is over", async () => (await at.agent.http("GET", "/health")).status === 200);
});
