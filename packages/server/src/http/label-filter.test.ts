import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { parseLabelFilter } from "./label-filter.ts";

suite("label filter", () => {
  test("reads one parameter for each label", () => {
    assert.deepEqual(parseLabelFilter({ "labels[job]": "x", "labels[a b]": ["old", "new"], limit: "3" }), {
      job: "x",
      "a b": "new",
    });
  });

  test("reads Python's dictionaries with either quote, escapes and none at all", () => {
    assert.deepEqual(parseLabelFilter({ labels: "{'k': 'v', \"it's\": 'a\\'b\\\\c\\x41\\u00e9'}" }), {
      k: "v",
      "it's": "a'b\\cAé",
    });
    assert.deepEqual(parseLabelFilter({ labels: "{}" }), {});
    assert.deepEqual(parseLabelFilter({ labels: "None" }), {});
  });

  test("refuses characters that there are not, and more filters than anything can pass", () => {
    for (const query of [
      { labels: "{'k': '\\U00110000'}" },
      Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`labels[k${index}]`, "v"])),
    ])
      assert.throws(() => parseLabelFilter(query), { code: "INVALID_LABELS" });
    assert.deepEqual(parseLabelFilter({ labels: "{'k': '\\U0010ffff'}" }), { k: "\u{10ffff}" });
  });

  test("refuses what is neither, instead of listing everything", () => {
    for (const labels of ["{'k'}", "{'k': v}", "['k']", "{'k': 'v'", "x", "{'a': 'b': 'c'}"]) {
      assert.throws(
        () => parseLabelFilter({ labels }),
        (error) => error instanceof CaissonError && error.code === "INVALID_LABELS",
        labels,
      );
    }
  });
});
