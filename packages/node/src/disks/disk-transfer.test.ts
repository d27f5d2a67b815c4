import assert from "node:assert/strict";
import { test } from "node:test";
import { wholeUnits, within } from "./disk-transfer.ts";

const MIB = 2 ** 20;

test("parts that changed are told in whole units, and in larger ones where there are too many", () => {
  assert.deepEqual(wholeUnits([], 5 * MIB), []);
  const parts = [
    { offset: 1, length: 1 },
    { offset: MIB - 1, length: 2 },
    { offset: 3 * MIB, length: MIB },
    { offset: 4.5 * MIB, length: 1 },
  ];
  assert.deepEqual(wholeUnits(parts, 4.75 * MIB), [
    { offset: 0, length: 2 * MIB },
    { offset: 3 * MIB, length: 1.75 * MIB },
  ]);
  const scattered = Array.from({ length: 5000 }, (_, index) => ({ offset: 4 * index * MIB, length: 1 }));
  const coarse = wholeUnits(scattered, 20_000 * MIB);
  assert.ok(coarse.length <= 4096, `${coarse.length} parts`);
  for (const { offset } of scattered)
    assert.ok(coarse.some((part) => part.offset <= offset && part.offset + part.length > offset));
});

test("of the data only what lies in the parts is read", async () => {
  async function* data() {
    yield* [
      { offset: 0, length: 10 },
      { offset: 20, length: 30 },
      { offset: 60, length: 5 },
    ];
  }
  const read = async (parts: Parameters<typeof within>[1]) =>
    (await Array.fromAsync(within(data(), parts))).map(({ offset, length }) => [offset, length]);
  assert.deepEqual(await read(null), [
    [0, 10],
    [20, 30],
    [60, 5],
  ]);
  assert.deepEqual(await read([]), []);
  assert.deepEqual(
    await read([
      { offset: 5, length: 20 },
      { offset: 30, length: 2 },
      { offset: 40, length: 21 },
      { offset: 64, length: 100 },
    ]),
    [
      [5, 5],
      [20, 5],
      [30, 2],
      [40, 10],
      [60, 1],
      [64, 1],
    ],
  );
});
