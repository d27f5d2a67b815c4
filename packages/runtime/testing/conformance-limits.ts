import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Harness } from "./harness.ts";
import { readScript, runScript } from "./test-sandbox.ts";

const MIB = 2 ** 20;

/** Counts the processes that it can make, and ends them again. */
const FORK_UNTIL_REFUSED = `
import os, signal
children = []
try:
    while True:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except OSError:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    print(len(children))
`;

/** What one sandbox can take from the host and from others. */
export function describeLimitConformance(harness: () => Harness): void {
  describe("limits", () => {
    test("a memory bomb is killed alone", async () => {
      const limits = { memoryBytes: 256 * MIB, cpuCount: 1, pidsMax: 100, terminalsMax: 8 };
      await harness().with({}, (neighbour) =>
        harness().with({ limits }, async (sandbox) => {
          const bomb =
            "echo 1000 >/proc/self/oom_score_adj; exec python3 -c 'a = [bytearray(1 << 20) for _ in range(100000)]'";
          const { code } = await runScript(sandbox, `(${bomb}); exit $?`);
          assert.equal(code, 137);
          assert.equal(await readScript(sandbox, "echo alive"), "alive");
          assert.equal(await readScript(neighbour, "echo alive"), "alive");
        }),
      );
    });

    test("shared memory and temporary file systems count as memory and are bounded", async () => {
      const limits = { memoryBytes: 256 * MIB, cpuCount: 1, pidsMax: 100, terminalsMax: 8 };
      await harness().with({ limits }, async (sandbox) => {
        assert.match((await runScript(sandbox, "head -c 200M /dev/zero >/dev/shm/x")).stderr, /No space left/);
        assert.match((await runScript(sandbox, "head -c 100M /dev/zero >/run/x")).stderr, /No space left/);
        assert.match((await runScript(sandbox, "head -c 1M /dev/zero >/.caisson/run/x")).stderr, /No space left/);
        assert.match((await runScript(sandbox, "head -c 1M /dev/zero >/dev/x")).stderr, /No space left/);
      });
    });

    test("forking ends at the limit of processes", async () => {
      const limits = { memoryBytes: 512 * MIB, cpuCount: 1, pidsMax: 64, terminalsMax: 8 };
      let count: number | null = null;
      for (let start = 1; count === null; start += 1) {
        count = await harness().with({ limits }, (sandbox) =>
          readScript(sandbox, `python3 -c '${FORK_UNTIL_REFUSED}'`).then(Number, (error: NodeJS.ErrnoException) => {
            // An agent that wants a thread just then dies and its sandbox with it, which says nothing of the limit.
            if (error.code === "ECONNRESET" && start < 10) return null;
            throw error;
          }),
        );
      }
      assert.ok(count > 10 && count < limits.pidsMax, `${count} processes`);
    });

    test("a sandbox in which processes multiply without end can be stopped, and its neighbour works on", async () => {
      await harness().with({}, async (neighbour) => {
        const sandbox = await harness().start({
          limits: { memoryBytes: 512 * MIB, cpuCount: 1, pidsMax: 64, terminalsMax: 8 },
        });
        try {
          // Whether its agent can still answer does not matter; the socket closes at the latest when the sandbox ends.
          const bomb = runScript(sandbox, "bomb() { bomb | bomb & }; bomb >/dev/null 2>&1").catch(() => undefined);
          await Promise.race([bomb, new Promise((resolve) => setTimeout(resolve, 500))]);
          assert.equal(await readScript(neighbour, "echo alive"), "alive");
        } finally {
          await harness().runtime.release(sandbox.id);
        }
      });
      assert.deepEqual(await harness().host.findDebris(), []);
    });

    test("programs see the limits that they have", async () => {
      const limits = { memoryBytes: 300 * MIB, cpuCount: 1.5, pidsMax: 100, terminalsMax: 8 };
      await harness().with({ limits }, async (sandbox) => {
        const memory = await readScript(
          sandbox,
          "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null || true",
        );
        assert.equal(Number(memory), limits.memoryBytes);
        const cpu = await readScript(
          sandbox,
          "cd /sys/fs/cgroup; cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null || true",
        );
        assert.equal(Number(cpu.split(" ")[0]), 150_000);
      });
    });

    test("a flood of log lines takes nothing but the little space that the log has", async () => {
      await harness().with({}, async (sandbox) => {
        const { stderr } = await runScript(sandbox, ": >/.caisson/run/agent.log; head -c 10M /dev/zero >/proc/1/fd/2");
        assert.match(stderr, /agent\.log: Permission denied/);
        const sizeBytes = Number(await readScript(sandbox, "stat -c %s /.caisson/run/agent.log"));
        assert.ok(sizeBytes <= 256 * 1024, `${sizeBytes} bytes`);
      });
    });

    test("no core dump wakes the host", async () => {
      await harness().with({}, async (sandbox) => {
        assert.equal(await readScript(sandbox, "ulimit -Sc; ulimit -Hc"), "0\n0");
      });
    });
  });
}
