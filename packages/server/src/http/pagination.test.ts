import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { nextLink, parsePage } from "./pagination.ts";

suite("pagination", () => {
  test("limit defaults to 30 and is clamped to 1 to 100 instead of being refused", () => {
    const limits = [undefined, "0", "-5", "7", "7.9", "1000", "many", ["3", "4"]].map(
      (limit) => parsePage({ limit }).limit,
    );
    assert.deepEqual(limits, [30, 1, 1, 7, 7, 100, 30, 4]);
  });

  test("the link's cursor comes back from both clients as the same position", () => {
    const link = nextLink(
      "http://host:8484",
      "/api/v2/volumes",
      { search: "a,b;c", limit: "2", cursor: "old" },
      4711,
      2,
    );
    const url = /^<([^<>,;]+)>; rel="next"$/.exec(link)?.[1];
    assert.ok(url, `the link ${link} has a comma or semicolon in its URL`);
    const cursor = new URL(url).searchParams.get("cursor");
    assert.equal(parsePage({ cursor }).beforeSequence, 4711);
    assert.equal(parsePage({ cursor: url }).beforeSequence, 4711);
    assert.equal(parsePage({ cursor: ["zz", url] }).beforeSequence, 4711);
    assert.equal(new URL(url).searchParams.get("search"), "a,b;c");
  });

  test("a cursor that is no cursor is refused", () => {
    for (const cursor of ["🙂", "-1", "a".repeat(99), "http://host/api/v2/volumes?limit=1"]) {
      assert.throws(
        () => parsePage({ cursor }),
        (error) => error instanceof CaissonError && error.code === "INVALID_CURSOR",
      );
    }
  });
});
