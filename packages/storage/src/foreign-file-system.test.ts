import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { runTool } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { settleForeignFileSystem } from "./foreign-file-system.ts";

const SIZE_BYTES = 64 * 2 ** 20;

suite("the check of a file system that somebody else made", () => {
  let directory: string;
  let image: string;
  /** Tells the process of this test's check from all others. */
  const seconds = `${100_000 + process.pid}`;
  const { PATH } = process.env;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-foreign-"));
    await chmod(directory, 0o711);
    image = join(directory, "image");
    await writeFile(image, "");
    await truncate(image, SIZE_BYTES);
    await runTool("mkfs.ext4", ["-q", "-b", "4096", image]);
  });
  after(async () => {
    process.env.PATH = PATH;
    await rm(directory, { recursive: true });
  });

  const findChecks = async (): Promise<readonly string[]> => {
    const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
    const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")));
    return lines.filter((line) => line === `sleep\0${seconds}\0`);
  };
  const until = async (what: string, isSo: () => Promise<boolean> | boolean): Promise<void> => {
    const deadlineMs = performance.now() + testTimeoutMs(20_000);
    while (!(await isSo())) {
      assert.ok(performance.now() < deadlineMs, `not in time: ${what}`);
      await delay(10);
    }
  };
  const untilChecks = (count: number) =>
    until(`${count} checks run`, async () => (await findChecks()).length === count);

  test("takes a sound one", async () => {
    const found = await settleForeignFileSystem(image, SIZE_BYTES, new AbortController().signal);
    assert.equal(found.sizeBytes, SIZE_BYTES);
  });

  test("ends at once when its caller leaves, while it runs and while it waits for its turn", async () => {
    await writeFile(join(directory, "e2fsck"), `#!/bin/sh\nexec sleep ${seconds}\n`, { mode: 0o755 });
    process.env.PATH = `${directory}:${PATH}`;
    const [first, second] = [new AbortController(), new AbortController()];
    try {
      const running = assert.rejects(settleForeignFileSystem(image, SIZE_BYTES, first.signal), /the first has left/);
      await untilChecks(1);
      const waiting = assert.rejects(settleForeignFileSystem(image, SIZE_BYTES, second.signal), /the second has left/);
      await until("the second waits", () => getEventListeners(second.signal, "abort").length > 0);
      second.abort(new Error("the second has left"));
      await waiting;
      assert.equal((await findChecks()).length, 1, "the one before it goes on");
      first.abort(new Error("the first has left"));
      await running;
      await untilChecks(0);
    } finally {
      for (const caller of [first, second]) caller.abort();
    }
    process.env.PATH = PATH;
    await settleForeignFileSystem(image, SIZE_BYTES, new AbortController().signal);
  });
});
