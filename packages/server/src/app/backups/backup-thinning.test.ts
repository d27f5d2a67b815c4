import assert from "node:assert/strict";
import { test } from "node:test";
import { superfluousBackups } from "./backup-thinning.ts";

const HOUR_MS = 3_600_000;
const NOW_MS = Date.parse("2026-11-27T12:00:00Z");
const KEEP_MS = 5 * 24 * HOUR_MS;

/** One every six hours for so many days, the newest first. */
function every6Hours(days: number, isAutomatic = true) {
  return Array.from({ length: days * 4 }, (_, index) => {
    const atMs = NOW_MS - index * 6 * HOUR_MS;
    return { id: new Date(atMs).toISOString(), atMs, isAutomatic };
  });
}

test("all backups of a day are kept, then the last of each day, then none", () => {
  const all = every6Hours(8);
  const gone = new Set(superfluousBackups(all, KEEP_MS, NOW_MS));
  const kept = all.filter((backup) => !gone.has(backup)).map(({ id }) => id.slice(5, 13));
  assert.deepEqual(kept, [
    ...["11-27T12", "11-27T06", "11-27T00", "11-26T18", "11-26T12"],
    // The last of the 26th that is older than a day, then the last of each day.
    ...["11-26T06", "11-25T18", "11-24T18", "11-23T18", "11-22T18"],
  ]);
  const left = all.filter((backup) => !gone.has(backup));
  assert.deepEqual(superfluousBackups(left, KEEP_MS, NOW_MS), [], "thinning again takes no more");
});

test("what somebody asked for stays, and so does the newest, however old it is", () => {
  assert.deepEqual(superfluousBackups(every6Hours(20, false), KEEP_MS, NOW_MS), []);
  const old = { id: "old", atMs: 0, isAutomatic: true };
  assert.deepEqual(superfluousBackups([old], KEEP_MS, NOW_MS), []);
});
