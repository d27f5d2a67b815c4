import assert from "node:assert/strict";
import { test } from "node:test";
import { reachedThreshold, usedPercent } from "./pool-watch.ts";

test("the use of a pool is told in percent of what volumes can have", () => {
  const pool = { totalBytes: 1100, headroomBytes: 100 };
  assert.equal(usedPercent({ ...pool, availableBytes: 1000, freeBytes: 1100 }), 0);
  assert.equal(usedPercent({ ...pool, availableBytes: 200, freeBytes: 300 }), 80);
  assert.equal(usedPercent({ ...pool, availableBytes: 0, freeBytes: 50 }), 100);
  assert.equal(usedPercent({ totalBytes: 50, headroomBytes: 100, availableBytes: 0, freeBytes: 50 }), 100);
});

test("a threshold is told of when it is reached, and again only after the use was clearly below it", () => {
  assert.equal(reachedThreshold(79.9, 0), 0);
  assert.equal(reachedThreshold(80, 0), 80);
  assert.equal(reachedThreshold(99, 0), 95);
  assert.equal(reachedThreshold(94, 95), 95);
  assert.equal(reachedThreshold(92.9, 95), 90);
  assert.equal(reachedThreshold(78.5, 80), 80);
  assert.equal(reachedThreshold(77.9, 80), 0);
  assert.equal(reachedThreshold(80, 90), 80);
});
