import assert from "node:assert/strict";
import { test } from "node:test";
import { closest, editDistance } from "./suggest.ts";

test("the distance counts insertions, deletions, replacements and swaps of neighbours", () => {
  assert.deepEqual(
    [
      editDistance("", "abc"),
      editDistance("data", "data"),
      editDistance("dtaa", "data"),
      editDistance("kitten", "sitting"),
    ],
    [3, 0, 1, 3],
  );
});

test("only what is near enough is suggested, and the nearest of that", () => {
  assert.equal(closest("datset", ["data", "dataset", "datasets"]), "dataset");
  assert.equal(closest("xy", ["data"]), undefined);
  assert.equal(closest("data", []), undefined);
});
