import assert from "node:assert/strict";
import { test } from "node:test";
import { runInRoot } from "./run-in-root.ts";

test("a program in a root that is built sees nothing of the host's variables", async () => {
  process.env.NODE_OPTIONS = "--require=/not/there.cjs";
  try {
    const names = (await runInRoot("/", ["env"])).split("\n").map((line) => line.split("=", 1)[0]);
    assert.deepEqual(names.filter((name) => name !== "").toSorted(), ["HOME", "LC_ALL", "PATH"]);
  } finally {
    delete process.env.NODE_OPTIONS;
  }
});
