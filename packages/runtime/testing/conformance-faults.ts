import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import { describe, test } from "node:test";
import type { Harness } from "./harness.ts";
import { readScript } from "./test-sandbox.ts";

/** Steps of a warm start before which nothing is done that a cold one needs too. */
const WARM_POINT = /^runtime\.(?:adopt|configure|limits)\b/;

/** Failures and crashes in the middle. The process must have been started with a fault plan. */
export function describeFaultConformance(harness: () => Harness): void {
  describe("faults", () => {
    const planPath = process.env.CAISSON_FAULT_PLAN ?? "";
    const tracePath = process.env.CAISSON_FAULT_TRACE ?? "";

    const startAndStop = async (): Promise<void> => {
      const source = await harness().host.newDirectory();
      const mounts = [{ sourcePath: source, targetPath: "/data", isReadOnly: false }];
      await harness().with({ mounts }, async (sandbox) =>
        assert.equal(await readScript(sandbox, "echo works"), "works"),
      );
    };

    /** Fault points of a start and its stop, in their order, as `<tag> <occurrence>`. */
    const tracePoints = async (): Promise<readonly string[]> => {
      await writeFile(planPath, `none ${Date.now()} fail:EIO\n`);
      await rm(tracePath, { force: true });
      await startAndStop();
      const text = await readFile(tracePath, "utf8");
      return [...new Set(text.trim().split("\n"))];
    };

    test("whatever call of a start or a stop fails, nothing is left and the next start works", async () => {
      const points = await tracePoints();
      const { isWarm } = harness().host;
      // Most of what a cold start does has been done for a warm one.
      assert.ok(points.length > (isWarm ? 25 : 40), `only ${points.length} fault points: ${points.join(", ")}`);
      let failures = 0;
      for (const point of points) {
        await harness().host.settle();
        await writeFile(planPath, `${point} fail:EIO\n`);
        const spec = await harness().newSpec({
          mounts: [{ sourcePath: await harness().host.newDirectory(), targetPath: "/data", isReadOnly: false }],
        });
        const error = await harness()
          .runtime.start(spec)
          .then(
            () => null,
            (reason: unknown) => reason,
          );
        if (error !== null) failures += 1;
        if (isWarm && WARM_POINT.test(point)) assert.equal(error, null, `${point} fails, and the sandbox starts cold`);
        // A release that fails is tried again, as the node does.
        await harness()
          .runtime.release(spec.id)
          .catch(() => harness().runtime.release(spec.id));
        await writeFile(planPath, "");
        assert.deepEqual(await harness().host.findDebris(), [], `after ${point}`);
        // Three warm starts that fail in a row would be the last.
        if (isWarm) await startAndStop();
      }
      if (!isWarm)
        assert.ok(failures > points.length / 3, `only ${failures} of ${points.length} faults made a start fail`);
      await startAndStop();
    });

    test("what a killed server leaves is removed by the next one", async () => {
      await writeFile(planPath, "");
      const { host } = harness();
      const spec = await harness().newSpec();
      await harness().runtime.close();
      const [command = "", ...args] = host.crashCommand;
      const child = spawn(command, [...args, JSON.stringify(spec)], { stdio: ["ignore", "pipe", "inherit"] });
      const killed = once(child, "exit");
      await Promise.race([
        once(child.stdout, "data"),
        killed.then(([code]) => assert.fail(`the other server ended with ${code} before its sandbox had started`)),
      ]);
      child.kill("SIGKILL");
      await killed;
      assert.notDeepEqual(await host.findDebris(), [], "the sandbox outlives the server for the moment");
      await using runtime = await openAgain(host);
      assert.deepEqual(await runtime.list(), []);
      assert.deepEqual(await host.findDebris(), []);
    });
  });
}

async function openAgain(host: Harness["host"]): Promise<Awaited<ReturnType<typeof host.open>> & AsyncDisposable> {
  const runtime = await host.open();
  return Object.assign(runtime, { [Symbol.asyncDispose]: () => runtime.close() });
}
