import assert from "node:assert/strict";
import { test } from "node:test";
import { isSameMap, partsThatDiffer } from "./changed-parts.ts";
import type { Extent } from "./extent-map.ts";

const extent = (offset: number, physicalOffset: number, length: number, over: Partial<Extent> = {}): Extent => ({
  ...{ offset, physicalOffset, length, isShared: true, isUnwritten: false, isPlain: true },
  ...over,
});

test("files are the same where they have the same blocks, or holes, at the same place", () => {
  const base = [extent(0, 1000, 40), extent(60, 2000, 20)];
  assert.deepEqual(partsThatDiffer(base, base, 100, 100), []);
  assert.deepEqual(partsThatDiffer([], [], 100, 100), []);
  assert.deepEqual(
    partsThatDiffer([extent(0, 1000, 10), extent(10, 1010, 30), extent(60, 2000, 20)], base, 100, 100),
    [],
  );
  const overwritten = [extent(0, 1000, 10), extent(10, 5000, 5, { isShared: false }), extent(15, 1015, 25)];
  assert.deepEqual(partsThatDiffer([...overwritten, extent(60, 2000, 20)], base, 100, 100), [
    { offset: 10, length: 5 },
  ]);
});

test("a hole that was filled, data that was discarded, and what was put elsewhere count as changed", () => {
  const base = [extent(0, 1000, 40), extent(60, 2000, 20)];
  const own = [extent(0, 1000, 20), extent(40, 3000, 20, { isShared: false }), extent(60, 2000, 20)];
  assert.deepEqual(partsThatDiffer(own, base, 100, 100), [{ offset: 20, length: 40 }]);
  assert.deepEqual(partsThatDiffer([extent(0, 1010, 40)], [extent(0, 1000, 40)], 40, 40), [{ offset: 0, length: 40 }]);
  assert.deepEqual(partsThatDiffer([extent(10, 1000, 40)], [extent(0, 1000, 40)], 50, 50), [{ offset: 0, length: 50 }]);
});

test("what says nothing of where its bytes lie, or is shared with nobody, counts as changed, whatever it shows", () => {
  for (const over of [{ isPlain: false }, { isShared: false }])
    for (const [own, base] of [
      [extent(0, 1000, 10, over), extent(0, 1000, 10)],
      [extent(0, 1000, 10), extent(0, 1000, 10, over)],
    ] as const)
      assert.deepEqual(partsThatDiffer([own], [base], 10, 10), [{ offset: 0, length: 10 }]);
});

test("what lies behind the end of the file is left out, and all that it has grown by is told, holes too", () => {
  assert.deepEqual(partsThatDiffer([], [extent(0, 1000, 40)], 10, 40), [{ offset: 0, length: 10 }]);
  const own = [extent(0, 1000, 40), extent(50, 9000, 10)];
  assert.deepEqual(partsThatDiffer(own, [extent(0, 1000, 40)], 80, 40), [{ offset: 40, length: 40 }]);
  assert.deepEqual(partsThatDiffer([], [], 80, 40), [{ offset: 40, length: 40 }]);
  assert.deepEqual(partsThatDiffer([], [], 40, 80), []);
});

test("a map is the same wherever its extents are cut, as long as each block, and each hole, is where it was", () => {
  const before = [extent(0, 1000, 40), extent(60, 2000, 20)];
  const cut = [extent(0, 1000, 10), extent(10, 1010, 5, { isShared: false }), extent(15, 1015, 25)];
  assert.equal(isSameMap(before, [...cut, extent(60, 2000, 20)], 100), true);
  assert.equal(isSameMap([...cut, extent(60, 2000, 20)], before, 100), true);
  assert.equal(isSameMap(before, cut, 100), false, "data that became a hole");
  assert.equal(isSameMap(cut, before, 100), false, "a hole that was filled");
  assert.equal(isSameMap(before, cut, 60), true, "what lies behind the end is of no account");
  assert.equal(isSameMap(before, [extent(0, 1000, 39), extent(39, 5000, 1), extent(60, 2000, 20)], 100), false);
  const hidden = extent(60, 2000, 20, { isPlain: false });
  assert.equal(isSameMap([...cut, hidden], [...cut, extent(60, 7000, 20)], 100), true, "it counts as changed");
  assert.equal(isSameMap(before, [...cut, hidden], 100), false);
});
