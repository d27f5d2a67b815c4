import assert from "node:assert/strict";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { LoopDevice, openFile, readFlushCounts, truncateFile } from "@caisson/linux";
import { assertNoLeaks, testTimeoutMs } from "@caisson/linux/testing";
import { MIB } from "../../testing/device-io.ts";
import { SyncedWriteWatch } from "./synced-write-watch.ts";

describe("synced writes", () => {
  let directory = "";
  let device: LoopDevice;
  const errors: unknown[] = [];
  let holders = 0;
  let holds = 0;
  const keepAwake = async (): Promise<AsyncDisposable> => {
    holders += 1;
    holds += 1;
    return {
      [Symbol.asyncDispose]: async () => {
        holders -= 1;
      },
    };
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-watch-"));
    const path = join(directory, "image");
    await using file = await openFile(path, "wx+");
    await truncateFile(file, 8 * MIB, path);
    device = await LoopDevice.attach(file, { isDirect: true });
  });

  beforeEach(() => {
    holds = 0;
  });

  after(async () => {
    await device.detach();
    await rm(directory, { recursive: true });
    await assertNoLeaks({ directory });
    assert.deepEqual(errors, []);
  });

  /** Writes and flushes the device until it is told to stop; fails when that takes too long. */
  const writeUntil = async (isEnough: () => boolean): Promise<void> => {
    await using file = await open(device.path, "r+");
    const deadline = performance.now() + testTimeoutMs(10_000);
    while (!isEnough()) {
      assert.ok(performance.now() < deadline, "nothing was noticed");
      await file.write(Buffer.alloc(4096, 1), 0, 4096, 0);
      await file.sync();
    }
  };

  test("many of them keep the processors awake, until they have ended", async () => {
    const watch = new SyncedWriteWatch({ onError: (error) => errors.push(error), keepAwake, minimumFlushes: 1 });
    watch.add(device.path);
    await writeUntil(() => holders === 1);
    const deadline = performance.now() + testTimeoutMs(10_000);
    while (holders > 0) {
      assert.ok(performance.now() < deadline, "still awake after the last write");
      await delay(10);
    }
    await writeUntil(() => holders === 1);
    await watch.close();
    assert.equal(holders, 0);
    assert.equal(holds, 2);
  });

  test("a device that is not watched any more changes nothing, and neither does one whose flushes are few", async () => {
    let looks = 0;
    const readCounts = async (): Promise<ReadonlyMap<string, number>> => {
      const counts = await readFlushCounts();
      looks += 1;
      return counts;
    };
    const watch = new SyncedWriteWatch({ onError: (error) => errors.push(error), keepAwake, readCounts });
    watch.add(device.path);
    for (let round = 0; round < 5; round += 1) {
      await device.flush();
      const before = looks;
      const deadline = performance.now() + testTimeoutMs(10_000);
      while (looks < before + 2) {
        assert.ok(performance.now() < deadline, "nobody looks");
        await delay(10);
      }
    }
    watch.remove(device.path);
    const before = (await readFlushCounts()).get(device.path) ?? 0;
    let writesLeft = 400;
    await writeUntil(() => {
      writesLeft -= 1;
      return writesLeft < 0;
    });
    assert.ok(((await readFlushCounts()).get(device.path) ?? 0) >= before + 400);
    await watch.close();
    assert.equal(holds, 0);
  });

  test("what goes wrong is reported, and the next look tries again", async () => {
    const reported: unknown[] = [];
    let refusals = 0;
    const watch = new SyncedWriteWatch({
      onError: (error) => reported.push(error),
      minimumFlushes: 1,
      keepAwake: async () => {
        refusals += 1;
        if (refusals === 1) throw new Error("refused");
        return keepAwake();
      },
    });
    watch.add(device.path);
    await writeUntil(() => holders === 1);
    await watch.close();
    assert.match(String(reported), /refused/);
    assert.equal(holders, 0);
  });
});
