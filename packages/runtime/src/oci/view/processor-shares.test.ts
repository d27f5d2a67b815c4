import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ProcessorShares } from "./processor-shares.ts";

suite("processors of sandboxes", () => {
  test("each sandbox gets those that the fewest have, and gives them back", () => {
    const shares = new ProcessorShares([0, 1, 2, 5]);
    const first = shares.take(2);
    assert.deepEqual(first?.processors, [0, 1]);
    assert.deepEqual(shares.take(1.5)?.processors, [2, 5]);
    assert.deepEqual(shares.take(1)?.processors, [0]);
    first?.[Symbol.dispose]();
    assert.deepEqual(shares.take(3)?.processors, [0, 1, 2]);
  });

  test("a sandbox that may use as many as there are is not confined, nor is any where it cannot be", () => {
    assert.equal(new ProcessorShares([0, 1]).take(2), null);
    assert.equal(new ProcessorShares([]).take(1), null);
  });
});
