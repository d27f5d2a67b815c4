import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, suite, test } from "node:test";
import { problemOf } from "./backup-list.ts";
import { BackupWatch } from "./backup-watch.ts";

const EVERY_MS = 900_000;
const HOUR_MS = 3_600_000;

suite("when a backup is due", () => {
  let watch: BackupWatch;
  let sinceStartMs: number;

  beforeEach(() => {
    watch = new BackupWatch("/nowhere");
    sinceStartMs = 1_000_000;
    mock.method(performance, "now", () => sinceStartMs);
  });
  afterEach(() => mock.restoreAll());

  test("it is when nobody knows of one, and when the newest is old enough", () => {
    assert.equal(watch.isDue(EVERY_MS), true);
    watch.lastAtMs = Date.now() - EVERY_MS;
    assert.equal(watch.isDue(EVERY_MS), true);
    watch.lastAtMs += 10_000;
    assert.equal(watch.isDue(EVERY_MS), false);
  });

  test("one from the future puts off nothing, and those that follow come as often as before", () => {
    watch.lastAtMs = Date.now() + 10 * 24 * HOUR_MS;
    assert.deepEqual([watch.isDue(EVERY_MS), watch.ageMs()], [true, null]);
    watch.succeed(watch.lastAtMs + 1000);
    assert.deepEqual([watch.isDue(EVERY_MS), watch.ageMs()], [false, 0]);
    sinceStartMs += EVERY_MS;
    assert.deepEqual([watch.isDue(EVERY_MS), watch.ageMs()], [true, EVERY_MS]);
    assert.match(problemOf(watch.lastAtMs, EVERY_MS, Date.now()) ?? "", /from the future \(20.*caisson backup delete/);
    assert.equal(problemOf(Date.now() + 1000, EVERY_MS, Date.now()), null);
  });

  test("what fails is tried again after pauses that grow to ten minutes, and at once after a success", () => {
    const pauses = Array.from({ length: 12 }, () => {
      watch.fail("full", { isAutomatic: true });
      const failedMs = sinceStartMs;
      while (!watch.isDue(EVERY_MS)) sinceStartMs += 1000;
      return sinceStartMs - failedMs;
    });
    assert.ok((pauses[0] ?? 0) >= 5_000 && (pauses[0] ?? 0) <= 11_000, String(pauses));
    for (const pause of pauses.slice(-3)) assert.ok(pause >= 300_000 && pause <= 601_000, String(pauses));
    watch.fail("full", { isAutomatic: true });
    watch.succeed(Date.now() - EVERY_MS);
    assert.deepEqual([watch.isDue(EVERY_MS), watch.failure], [true, null]);
    watch.fail("refused", { isAutomatic: false });
    assert.equal(watch.isDue(EVERY_MS), true, "what somebody asked for puts off nothing");
  });
});
