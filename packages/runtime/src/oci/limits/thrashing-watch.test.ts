import assert from "node:assert/strict";
import { mock, suite, test } from "node:test";
import type { MemoryUse } from "@caisson/linux";
import { ThrashingWatch } from "./thrashing-watch.ts";

const MIB = 2 ** 20;

interface Look {
  /** Since the look before, as a part of the time that has passed. */
  readonly stalled: number;
  readonly use?: MemoryUse;
}

/** A sandbox of 256 MiB of which each look finds the next state; resolves with the number of looks that an end of a process came after. */
async function watchLooks(looks: readonly Look[]): Promise<readonly number[]> {
  const ends: number[] = [];
  const failures: unknown[] = [];
  const done = Promise.withResolvers<void>();
  let count = -1;
  let stallUs = 0;
  // Looks are as far apart as the clock says, and it is this one, so that it does not matter when they really are.
  let nowMs = 0;
  const clock = mock.method(performance, "now", () => nowMs);
  const watch = new ThrashingWatch(
    {
      memoryBytes: 256 * MIB,
      async stallUs() {
        count += 1;
        nowMs += 1_000;
        stallUs += (looks[count]?.stalled ?? 0) * 1_000_000;
        if (count === looks.length) done.resolve();
        return stallUs;
      },
      async use() {
        const { use } = looks[count] ?? {};
        assert.ok(use !== undefined, `look ${count} asks for more than it needs`);
        return use;
      },
      async endProcess() {
        ends.push(count);
      },
    },
    { intervalMs: 5, onFailure: (error) => failures.push(error) },
  );
  await done.promise;
  await watch[Symbol.asyncDispose]();
  clock.mock.restore();
  assert.deepEqual(failures, []);
  return ends;
}

const thrashing = (refaultCount: number): Look => ({
  stalled: 0.9,
  use: { usageBytes: 256 * MIB, fileBytes: 120_000, refaultCount },
});

suite("watch for thrashing", () => {
  test("a process that stands with its whole sandbox for want of memory is ended at the second bad look", async () => {
    assert.deepEqual(await watchLooks([{ stalled: 0 }, { stalled: 0 }, thrashing(1000), thrashing(90_000)]), [3]);
  });

  test("a sandbox that the kernel helps by itself is left alone", async () => {
    assert.deepEqual(await watchLooks([{ stalled: 0 }, thrashing(1000), { stalled: 0.1 }, thrashing(90_000)]), []);
  });

  test("one that waits for its own writes is left alone", async () => {
    assert.deepEqual(await watchLooks([{ stalled: 0 }, thrashing(1000), thrashing(1100), thrashing(1200)]), []);
  });

  test("one that has memory for files, or could have, is left alone, however much it waits", async () => {
    const use = { usageBytes: 256 * MIB, fileBytes: 60 * MIB, refaultCount: 0 };
    const looks = [0, 1e6, 2e6, 3e6].map((refaultCount) => ({ stalled: 1, use: { ...use, refaultCount } }));
    assert.deepEqual(await watchLooks([{ stalled: 0 }, ...looks]), []);
    const small = looks.map((look) => ({ ...look, use: { ...look.use, usageBytes: 100 * MIB, fileBytes: MIB } }));
    assert.deepEqual(await watchLooks([{ stalled: 0 }, ...small]), []);
  });

  test("where the kernel does not measure it nothing happens", async () => {
    let looks = 0;
    const enough = Promise.withResolvers<void>();
    const watch = new ThrashingWatch(
      {
        memoryBytes: 256 * MIB,
        async stallUs() {
          looks += 1;
          if (looks === 3) enough.resolve();
          return null;
        },
        use: () => assert.fail("nothing more is read"),
        endProcess: () => assert.fail("nothing is ended"),
      },
      { intervalMs: 5, onFailure: (error) => enough.reject(error) },
    );
    await enough.promise;
    await watch[Symbol.asyncDispose]();
  });
});
