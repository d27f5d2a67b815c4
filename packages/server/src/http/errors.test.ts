import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { toCaissonError } from "./errors.ts";

suite("errors of answers", () => {
  const away = new CaissonError("NODE_UNAVAILABLE", "the node is away");
  const failed = new CaissonError("SANDBOX_START_FAILED", "it did not start");

  test("of several that have a place in the table the first is told", () => {
    const several = new AggregateError([away, failed], "both");
    const { code, message, cause } = toCaissonError(several);
    assert.deepEqual([code, message, cause], ["NODE_UNAVAILABLE", "the node is away", several]);
  });

  test("what is not in the table is not told, alone or among others", () => {
    for (const error of [new Error("a secret"), new AggregateError([away, new Error("a secret")]), "a secret"]) {
      const { code, message } = toCaissonError(error);
      assert.equal(code, "INTERNAL_ERROR");
      assert.doesNotMatch(message, /secret/);
    }
  });
});
