import assert from "node:assert/strict";
import { test } from "node:test";
import { TestAgent } from "../../testing/test-agent.ts";
import { MemoryCgroup } from "../../tests/memory-cgroup.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

const LIMIT_BYTES = 200 * 1024 * 1024;

/** Takes memory until it is ended; `tail` keeps what it cannot split into lines. */
const HOG = "tail /dev/zero";

test("a process that the kernel ends for want of memory says so, its shell too, others do not, and the agent lives", async () => {
  await using cgroup = new MemoryCgroup(LIMIT_BYTES);
  await using agent = await TestAgent.start({ prefix: cgroup.prefix });
  await using client = await RpcClient.connect(agent.socketPath);
  const run = async (script: string) => {
    const params = { command: "sh", args: ["-c", script], stdout: "null", stderr: "null" };
    const { pid } = (await client.ok("spawn", params)) as { pid: number };
    return await client.ok("processWait", { pid });
  };
  const killed = { success: false, code: 137, signal: "SIGKILL" };
  assert.deepEqual(await run("kill -KILL $$"), { ...killed, oom: null });
  assert.deepEqual(await run(`exec ${HOG}`), { ...killed, oom: "high-confidence" });
  assert.deepEqual(await run("kill -KILL $$"), { ...killed, oom: null });
  assert.deepEqual(await run(`${HOG}; exit $?`), { success: false, code: 137, signal: null, oom: "high-confidence" });
  assert.deepEqual(await run(`${HOG}; exit 3`), { success: false, code: 3, signal: null, oom: null });
  assert.deepEqual(await run("kill -KILL $$"), { ...killed, oom: null });
  assert.equal(await client.ok("envGet", { key: "HOME" }), agent.home);
});
