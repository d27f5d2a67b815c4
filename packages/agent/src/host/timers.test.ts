import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually } from "../../tests/eventually.ts";
import { delay, startInterval, startTimer } from "./timers.ts";

test("a timer calls back once after its time, and a cancelled one never", async () => {
  const startedAt = performance.now();
  const calls: string[] = [];
  const cancel = startTimer(20, () => calls.push("cancelled"));
  startTimer(30, () => calls.push("kept"));
  cancel();
  cancel();
  await delay(60);
  assert.deepEqual(calls, ["kept"]);
  assert.ok(performance.now() - startedAt >= 59);
});

test("an interval calls back until it is stopped, also from within", async () => {
  let calls = 0;
  const stop = startInterval(5, () => {
    calls += 1;
    if (calls === 3) stop();
  });
  await eventually("three calls", () => calls === 3);
  await delay(50);
  assert.equal(calls, 3);
});
