import assert from "node:assert/strict";
import { test } from "node:test";
import type { Disk } from "@caisson/database";
import { superfluousSnapshots } from "./snapshot-thinning.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const NOW_MS = Date.parse("2026-11-27T12:30:00Z");

/** A snapshot of so many minutes ago. */
function snapshot(
  ageMs: number,
  values: { readonly isAutomatic?: boolean; readonly replicatedAgeMs?: number } = {},
): Disk {
  const { isAutomatic = true, replicatedAgeMs } = values;
  const replication =
    replicatedAgeMs === undefined
      ? { state: "local", atMs: null }
      : { state: "replicated", atMs: NOW_MS - replicatedAgeMs };
  return { createdAtMs: NOW_MS - ageMs, isAutomatic, replication } as Disk;
}

const agesOf = (snapshots: readonly Disk[]) => snapshots.map(({ createdAtMs }) => NOW_MS - createdAtMs);
const options = { nowMs: NOW_MS, backupAtMs: Number.POSITIVE_INFINITY, isVolumeGone: false };

test("what a snapshot every minute for 40 days leaves is all of an hour, one for each hour of a day and one for each of 30 days", () => {
  const all = Array.from({ length: (40 * DAY_MS) / MINUTE_MS }, (_, index) =>
    snapshot(40 * DAY_MS - index * MINUTE_MS),
  );
  const gone = new Set(superfluousSnapshots(all, options));
  const kept = agesOf(all.filter((one) => !gone.has(one)));
  assert.equal(kept.filter((ageMs) => ageMs <= HOUR_MS).length, 60);
  assert.deepEqual(
    kept.filter((ageMs) => ageMs > HOUR_MS && ageMs <= DAY_MS).length,
    24,
    "the hour that is 61 minutes ago is cut in two",
  );
  assert.equal(kept.filter((ageMs) => ageMs > DAY_MS).length, 30);
  assert.ok(kept.length < 120 && Math.max(...kept) <= 30 * DAY_MS);
  const ofHours = kept.filter((ageMs) => ageMs > 2 * HOUR_MS && ageMs <= DAY_MS);
  assert.ok(
    ofHours.every((ageMs) => new Date(NOW_MS - ageMs).getUTCMinutes() === 59),
    "the last of each hour",
  );
});

test("one that somebody made stays, and takes no turn of the schedule's", () => {
  const [older, own] = [snapshot(200 * MINUTE_MS), snapshot(190 * MINUTE_MS, { isAutomatic: false })];
  assert.deepEqual(superfluousSnapshots([older, own, snapshot(0)], options), []);
});

test("the newest, and the newest that is replicated, stay whatever their age; what is from the future stays", () => {
  const [replicated, local] = [snapshot(50 * DAY_MS, { replicatedAgeMs: 0 }), snapshot(45 * DAY_MS)];
  assert.deepEqual(superfluousSnapshots([replicated, local], options), []);
  assert.deepEqual(superfluousSnapshots([replicated, local, snapshot(0)], options), [local]);
  assert.deepEqual(superfluousSnapshots([snapshot(-DAY_MS), snapshot(-DAY_MS)], options), []);
});

test("what a restore of the newest backup would take stays, and all that is replicated when nobody knows which that is", () => {
  const known = snapshot(40 * DAY_MS, { replicatedAgeMs: 39 * DAY_MS });
  const all = [
    snapshot(41 * DAY_MS),
    known,
    snapshot(35 * DAY_MS, { replicatedAgeMs: 34 * DAY_MS }),
    snapshot(0, { replicatedAgeMs: 0 }),
  ];
  assert.deepEqual(agesOf(superfluousSnapshots(all, options)), [41 * DAY_MS, 40 * DAY_MS, 35 * DAY_MS].toReversed());
  const backupAtMs = NOW_MS - 36 * DAY_MS;
  assert.deepEqual(agesOf(superfluousSnapshots(all, { ...options, backupAtMs })), [35 * DAY_MS, 41 * DAY_MS]);
  assert.deepEqual(agesOf(superfluousSnapshots(all, { ...options, backupAtMs: null })), [41 * DAY_MS]);
});

test("those of a volume that is gone are gone after 30 days", () => {
  const all = [snapshot(31 * DAY_MS, { replicatedAgeMs: 0 }), snapshot(29 * DAY_MS)];
  assert.deepEqual(agesOf(superfluousSnapshots(all, { ...options, isVolumeGone: true, backupAtMs: null })), [
    31 * DAY_MS,
  ]);
});
