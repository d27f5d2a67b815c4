import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesIn, difference, extentSet, intersection, union } from "./extent-set.ts";

test("sets of extents are joined, cut and subtracted as sets of bytes are", () => {
  let seed = 1;
  const random = (below: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  const make = () =>
    extentSet(
      Array.from({ length: random(6) }, () => {
        const start = random(40);
        return [start, start + random(9)] as const;
      }),
    );
  const bytes = (set: ReturnType<typeof make>): ReadonlySet<number> =>
    new Set(set.flatMap(([start, end]) => Array.from({ length: end - start }, (_, index) => start + index)));
  for (let round = 0; round < 2000; round += 1) {
    const [a, b] = [make(), make()];
    assert.deepEqual(bytes(union(a, b)), bytes(a).union(bytes(b)), `${a} with ${b}`);
    assert.deepEqual(bytes(intersection(a, b)), bytes(a).intersection(bytes(b)), `${a} and ${b}`);
    assert.deepEqual(bytes(difference(a, b)), bytes(a).difference(bytes(b)), `${a} without ${b}`);
    assert.equal(bytesIn(a), bytes(a).size);
    for (const set of [union(a, b), intersection(a, b), difference(a, b)])
      for (const [index, [start]] of set.entries()) assert.ok(index === 0 || start > (set[index - 1]?.[1] ?? 0) - 1);
  }
});
