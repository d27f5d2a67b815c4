import assert from "node:assert/strict";
import { test } from "node:test";
import { formatBoolean, formatCount, formatDuration, formatSpan, formatTime } from "./format.ts";

test("a moment is UTC with hundredths of a second", () => {
  assert.equal(formatTime(new Date("2026-01-30T18:33:40.796Z")), "2026-01-30 18:33:40.79");
});

test("a span has its two largest units, and never 60 of the smaller one", () => {
  const spans: readonly (readonly [spanMs: number, text: string])[] = [
    [0, "0.0s"],
    [-5, "0.0s"],
    [26_900, "26.9s"],
    [59_949, "59.9s"],
    [59_950, "1m 0s"],
    [192_400, "3m 12s"],
    [3_599_499, "59m 59s"],
    [3_599_500, "1h 0m"],
    [7_500_000, "2h 5m"],
    [86_400_000, "1d 0h"],
    [370_800_000, "4d 7h"],
  ];
  for (const [spanMs, text] of spans) assert.equal(formatSpan(spanMs), text, String(spanMs));
});

test("durations of steps are exact where they are small", () => {
  assert.deepEqual([0.42, 9.96, 12.4, 999.4, 1240].map(formatDuration), [
    "0.4 ms",
    "10.0 ms",
    "12 ms",
    "999 ms",
    "1.24 s",
  ]);
});

test("counts and booleans read as in the documented tables", () => {
  assert.deepEqual(
    [formatCount(1, "file"), formatCount(0, "file"), formatBoolean(true)],
    ["1 file", "0 files", "TRUE"],
  );
});
