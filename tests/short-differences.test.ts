import assert from "node:assert/strict";
import { suite, test } from "node:test";
import "../scripts/short-differences.ts";

const rows = (name: string) =>
  Array.from({ length: 1_500 }, (_, row) => ({
    row,
    columns: Array.from({ length: 20 }, (_, column) => name + column),
  }));

/** Each of these would keep the usual comparison busy for minutes or hours. */
suite("a comparison of large values", () => {
  const message = (compare: () => void): string => {
    try {
      compare();
    } catch (error) {
      assert.ok(error instanceof assert.AssertionError);
      return error.message;
    }
    throw new Error("they are not equal");
  };

  test("shows the first part that differs", () => {
    const [bytes, other] = [Buffer.alloc(2 ** 20), Buffer.alloc(2 ** 20)];
    other[777_777] = 7;
    assert.match(
      message(() => assert.deepEqual(bytes, other, "the bytes")),
      /^the bytes: .* first at \[777777\]\n.*^- {3}7,$/ms,
    );
    const changed = rows("a");
    changed[700] = { row: 700, columns: ["b"] };
    assert.match(
      message(() => assert.deepEqual({ all: [1, rows("a")] }, { all: [1, changed] })),
      /first at \.all\[1\]\[700\]\n/,
    );
    assert.match(
      message(() => assert.deepEqual(rows("a"), rows("b"))),
      /first at \[0\]\n.*'b0'/s,
    );
    assert.match(
      message(() => assert.deepEqual(rows("a"), [])),
      /first at \[0\]\n.*'a19'/s,
    );
    assert.match(
      message(() => assert.deepEqual(new Set(rows("a")), rows("a"))),
      /they differ\n.*Set\(1500\)/s,
    );
    const text = "line\n".repeat(100_000);
    assert.match(
      message(() => assert.equal(text, `${text}end`)),
      /first at \[500000\]\n.*'end'/s,
    );
    assert.throws(() => assert.deepEqual(rows("a"), [], new RangeError("own")), /^RangeError: own/);
  });

  test("passes when they are equal, and is the usual one of small values", () => {
    assert.deepEqual(rows("a"), rows("a"));
    assert.equal("line\n".repeat(9_999), "line\n".repeat(9_999));
    assert.match(
      message(() => assert.deepEqual({ a: 1 }, { a: 2 })),
      /^Expected values to be strictly deep-equal:/,
    );
    assert.match(
      message(() => assert.equal(0, -0)),
      /^Expected values to be strictly equal:/,
    );
  });
});
