import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TestAgent } from "../../testing/test-agent.ts";
import { eventually } from "../../tests/eventually.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

const LIMIT_BYTES = 200 * 1024 * 1024;

/** The hierarchy that rules memory here: version 1 where the host still has it, else version 2. */
const VERSION_1 = "/sys/fs/cgroup/memory";
const isVersion1 = existsSync(VERSION_1);
const root = isVersion1 ? VERSION_1 : "/sys/fs/cgroup";

/** A cgroup with little memory that shows inside as the whole hierarchy, as in a sandbox. */
class MemoryCgroup implements AsyncDisposable {
  readonly path = mkdtempSync(join(root, "caisson-test-"));

  constructor() {
    writeFileSync(join(this.path, isVersion1 ? "memory.limit_in_bytes" : "memory.max"), String(LIMIT_BYTES));
    if (!isVersion1) writeFileSync(join(this.path, "memory.swap.max"), "0");
  }

  get prefix(): string[] {
    const script = `echo $$ > ${this.path}/cgroup.procs && mount --bind ${this.path} ${root} && exec "$@"`;
    return ["unshare", "--mount", "sh", "-c", script, "agent"];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await eventually("the cgroup is empty", () => readFileSync(join(this.path, "cgroup.procs"), "utf8") === "");
    rmdirSync(this.path);
  }
}

/** Takes memory until it is ended; `tail` keeps what it cannot split into lines. */
const HOG = "tail /dev/zero";

test("a process that the kernel ends for want of memory says so, its shell too, others do not, and the agent lives", async () => {
  await using cgroup = new MemoryCgroup();
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
