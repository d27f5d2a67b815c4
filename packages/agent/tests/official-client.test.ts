import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { TestAgent } from "../testing/test-agent.ts";
import { TEST_SANDBOX_ID, TestGateway } from "./test-gateway.ts";

/** The lines of protocol.md 9.A about processes, environment and connections, through the unmodified JavaScript client. */
let agent: TestAgent;
let gateway: TestGateway;
let sandbox: Sandbox;

before(async () => {
  agent = await TestAgent.start();
  gateway = await TestGateway.start(agent.socketPath);
  sandbox = await Sandbox.create(gateway.options);
});

after(async () => {
  await sandbox.close();
  await gateway[Symbol.asyncDispose]();
  await agent[Symbol.asyncDispose]();
});

test("9.A 1: the id of the sandbox comes from the answer to the upgrade", () => {
  assert.equal(sandbox.id, TEST_SANDBOX_ID);
});

test("9.A 2: a second connection sees the same files and environment at once", async () => {
  await using second = await Sandbox.connect({ id: TEST_SANDBOX_ID, ...gateway.options });
  await sandbox.fs.writeTextFile("shared.txt", "from the first");
  assert.equal(await second.fs.readTextFile("shared.txt"), "from the first");
  await second.env.set("SHARED", "1");
  assert.equal(await sandbox.env.get("SHARED"), "1");
});

test("9.A 5: waiting first and reading afterwards yields all output, apart", async () => {
  const child = await sandbox.spawn("sh", {
    args: ["-c", "seq 1 100000; echo err >&2"],
    stdout: "piped",
    stderr: "piped",
  });
  await child.status;
  const { stdoutText, stderrText } = await child.output();
  assert.equal(stdoutText?.trimEnd().split("\n").length, 100_000);
  assert.equal(stderrText, "err\n");
});

test("9.A 7: input given to cat comes back exactly", async () => {
  const child = await sandbox.spawn("cat", { stdin: "piped", stdout: "piped" });
  const input = Buffer.alloc(2_000_000, "0123456789\u0000\u00ff", "latin1");
  const writer = child.stdin?.getWriter();
  const written = writer?.write(new Uint8Array(input)).then(() => writer.close());
  const { stdout } = await child.output();
  await written;
  assert.ok(input.equals(stdout ?? new Uint8Array()));
});

test("9.A 26: the environment reaches later commands, and one command's does not reach the next", async () => {
  await sandbox.env.set("GREETING", "hello");
  assert.equal(await sandbox.sh`echo $GREETING`.text(), "hello\n");
  const child = await sandbox.spawn("sh", {
    args: ["-c", "echo $GREETING"],
    env: { GREETING: "bye" },
    stdout: "piped",
  });
  assert.equal((await child.output()).stdoutText, "bye\n");
  assert.equal((await sandbox.env.toObject()).GREETING, "hello");
  await sandbox.env.delete("GREETING");
  assert.equal(await sandbox.env.get("GREETING"), undefined);
});

test("9.A 27: exit codes and signals come through, and aborting a command ends it with 143", async () => {
  const result = await sandbox.sh`exit 42`.noThrow();
  assert.equal(result.status.code, 42);
  await assert.rejects(sandbox.sh`exit 1`.text(), { code: 1 });
  const stop = new AbortController();
  const sleeping = await sandbox.spawn("sleep", { args: ["101"], signal: stop.signal });
  stop.abort();
  const { code, signal } = await sleeping.status;
  assert.deepEqual([code, signal], [143, "SIGTERM"]);
  const child = await sandbox.spawn("sleep", { args: ["101"] });
  await child.kill("SIGKILL");
  assert.equal((await child.status).signal, "SIGKILL");
  await child.kill();
});

test("9.A 28: five megabytes stream in order, and a consumer that stops early harms nothing", async () => {
  const text = await sandbox.sh`seq 1 700000`.text();
  assert.ok(text.startsWith("1\n2\n3\n") && text.endsWith("\n699999\n700000\n"));
  assert.equal(text.length, 4_788_895);
  for (let round = 0; round < 2; round += 1) {
    const child = await sandbox.spawn("seq", { args: ["1", "100000"], stdout: "piped" });
    for await (const chunk of child.stdout ?? []) {
      assert.ok(chunk.length > 0);
      break;
    }
    assert.equal((await child.status).code, 0);
  }
  assert.equal(await sandbox.sh`echo alive`.text(), "alive\n");
});

test("a program that does not exist is an error of the class that the client knows", async () => {
  await assert.rejects(sandbox.spawn("no-such-program"), { code: "ENOENT" });
});
