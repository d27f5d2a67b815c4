import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { describeFetch } from "./fetch-progress.ts";

suite("the way back of a snapshot", () => {
  const startedAt = new Date();

  test("is told in percent and in bytes, also of nothing and before anything is known", () => {
    const told = [
      { done: 0, total: null },
      { done: 0, total: 0 },
      { done: 3 * 2 ** 20 - 1, total: 3 * 2 ** 20 },
    ].map((fetch) => describeFetch({ startedAt, ...fetch }));
    assert.deepEqual(told, [
      "waiting for the snapshot store",
      "coming back from the snapshot store: 100%, 0 B of 0 B",
      "coming back from the snapshot store: 99%, 3 MiB of 3 MiB",
    ]);
  });
});
