import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError, ConnectionClosedError, Sandbox } from "../src/index.ts";
import { FakeSandbox, RUNNING_PROCESS, STOPPED_AT } from "./fake-sandbox.ts";

const MESSAGE =
  "The sandbox ended at 2026-01-30T18:33:40.790Z (timeout); connection closed (code: 1001, reason: the sandbox timed out)";

test("a sandbox that ends inside a scope of a process, a file and itself tells when and why, and nothing else", async () => {
  await using fake = await FakeSandbox.start({ ...RUNNING_PROCESS, open: () => ({ fileHandleId: 1 }) });
  const use = async () => {
    await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
    await using _file = await sandbox.fs.open("a");
    await using child = await sandbox.spawn("sleep", { stdout: "piped", stderr: "null" });
    fake.states.push("stopped");
    fake.socket.close(1001, "the sandbox timed out");
    await assert.rejects(new Response(child.stdout).text(), { message: MESSAGE });
    await child.status;
  };
  const error = await use().catch((caught: unknown) => caught);
  assert.ok(error instanceof ConnectionClosedError, String(error));
  assert.equal(error.message, MESSAGE);
  assert.deepEqual([error.code, error.stopReason, error.stoppedAt], [1001, "timeout", STOPPED_AT]);
});

test("calls after such an end tell the same", async () => {
  await using fake = await FakeSandbox.start();
  const sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  fake.states.push("stopped");
  fake.socket.close(1001, "the sandbox timed out");
  await sandbox.closed;
  await assert.rejects(sandbox.env.get("A"), { name: "ConnectionClosedError", message: MESSAGE });
  assert.equal(fake.questions.length, 1);
});

test("an end of the connection alone, and a server that cannot be asked, leave the error as it is", async () => {
  for (const state of ["running", "failure"] as const) {
    await using fake = await FakeSandbox.start(RUNNING_PROCESS);
    const sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
    const child = await sandbox.spawn("sleep", { stdout: "piped" });
    fake.states.push(state);
    fake.socket.close(1011, "trouble");
    await assert.rejects(child.status, {
      message: "Connection closed (code: 1011, reason: trouble)",
      stoppedAt: null,
      stopReason: null,
    });
  }
});

test("nobody is asked about an end that this program wanted", async () => {
  await using fake = await FakeSandbox.start(RUNNING_PROCESS);
  const sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const child = await sandbox.spawn("sleep", { stdout: "piped" });
  const failed = assert.rejects(child.status, { name: "ConnectionClosedError", code: 1005 });
  await sandbox.close();
  await failed;
  assert.deepEqual(fake.questions, []);
});

test("leaving a session whose end has lost something throws, as a kill does", async () => {
  await using fake = await FakeSandbox.start();
  fake.damages = ["Volume vol_a: Writes are lost"];
  fake.states.push("stopping", "stopped");
  const sandbox = await Sandbox.create({ ...fake.options, volumes: { "/v": "a" } });
  await assert.rejects(sandbox.close(), (error) => {
    assert.ok(error instanceof ConflictError, String(error));
    assert.deepEqual([error.status, error.code], [409, "DATA_LOST"]);
    assert.match(error.message, /has ended, but not well\. Volume vol_a: Writes are lost$/);
    return true;
  });
});
