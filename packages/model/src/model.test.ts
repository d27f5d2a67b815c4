import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { CaissonError, ERRORS, type ErrorCode } from "./errors.ts";
import {
  classOfId,
  formatSize,
  isSlug,
  newId,
  parseDuration,
  parseId,
  parseSize,
  requireLabels,
  requireSlug,
} from "./index.ts";

const fails = (code: ErrorCode) => (error: unknown) => error instanceof CaissonError && error.code === code;

suite("ids", () => {
  test("a new id has the shape that official clients check before any request", () => {
    for (let count = 0; count < 200; count += 1) {
      const id = newId("sbx", "ord");
      assert.match(id, /^sbx_([a-z]{3})_[0-9a-hjkmnp-z]{20}$/);
      assert.deepEqual(parseId(id), { prefix: "sbx", region: "ord" });
    }
  });

  test("the id of a volume or snapshot tells its class, and no other id is taken for that of a replicated one", () => {
    for (let count = 0; count < 200; count += 1) {
      const [local, replicated] = [newId("vol", "ord"), newId("snp", "ord", "replicated")];
      assert.deepEqual([classOfId(local), classOfId(replicated)], ["local", "replicated"]);
      assert.match(replicated, /^snp_ord_o[0-9a-hjkmnp-z]{19}$/);
      assert.deepEqual(parseId(replicated), { prefix: "snp", region: "ord" });
    }
    for (const id of ["scr_ord_o0", "img_o0", "vol_o0", "vol_orange_o"]) assert.equal(classOfId(id), "local");
    assert.equal(parseId("sbx_ord_o0000000000000000000"), null);
  });

  test("a slug is never taken for an id", () => {
    for (const text of ["", "vol", "vol_ord_short", "vol_ord_iiiiiiiiiiiiiiiiiiii", "VOL_ord_00000000000000000000"])
      assert.equal(parseId(text), null);
  });
});

suite("slugs", () => {
  test("the rule of the wire contract holds at every edge", () => {
    const good = ["ab", "a1", "0-0", "my-volume", "a".repeat(32), "a--b", "abcd--e"];
    const bad = ["", "a", "-ab", "ab-", "Ab", "a_b", "ab--cd", "a".repeat(33), "ä1", "a b", "a\n"];
    assert.deepEqual([good.filter((slug) => !isSlug(slug)), bad.filter(isSlug)], [[], []]);
    for (const slug of bad) assert.throws(() => requireSlug(slug), fails("INVALID_SLUG"));
  });
});

suite("sizes", () => {
  test("decimal and binary units in any case, fractions rounded down", () => {
    const cases: [string | number, number][] = [
      [1, 1],
      ["1GB", 1e9],
      ["1kB", 1000],
      ["1KB", 1000],
      ["10 gib", 10 * 2 ** 30],
      ["1.5GiB", 1.5 * 2 ** 30],
      ["0.3GB", 3e8],
      ["1.0001kB", 1000],
      ["1.9B", 1],
    ];
    assert.equal(parseSize("300000000"), 300e6, "digits are bytes");
    assert.equal(parseSize(" 2147483648 "), 2 ** 31);
    for (const [text, bytes] of cases) assert.equal(parseSize(text), bytes, String(text));
  });

  test("what is no size is refused", () => {
    for (const text of [
      "",
      "GB",
      "1.5",
      "99999999999999999999",
      "-1GB",
      "1e3GB",
      "1 TB",
      "1GB2",
      "0x10GB",
      "1,5GB",
      Number.NaN,
      -1,
      1.5,
      2 ** 60,
      "99999999999GB",
    ]) {
      assert.throws(() => parseSize(text), fails("INVALID_CAPACITY"), String(text));
    }
  });

  test("printing keeps two decimals of binary units", () => {
    assert.deepEqual([0, 1023, 1024, 1536, 300e6, 1e9, 20e9].map(formatSize), [
      "0 B",
      "1023 B",
      "1 KiB",
      "1.5 KiB",
      "286.1 MiB",
      "953.67 MiB",
      "18.63 GiB",
    ]);
  });

  test("whole bytes survive a round trip through text", () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 40 }), (bytes) => parseSize(`${bytes}B`) === bytes));
  });
});

suite("durations and labels", () => {
  test("a duration is whole seconds or minutes above zero", () => {
    assert.deepEqual(["1s", "90s", "5m"].map(parseDuration), [1000, 90_000, 300_000]);
    for (const text of ["", "0s", "-1s", "1h", "1.5m", "5", "m", "session", "9999999999s"])
      assert.throws(() => parseDuration(text), fails("INVALID_CONFIG"), text);
  });

  test("labels are limited in number and in bytes, not in characters", () => {
    const many = Object.fromEntries(Array.from({ length: 6 }, (_, index) => [`k${index}`, "v"]));
    for (const labels of [
      many,
      { "": "x" },
      { ["ä".repeat(33)]: "x" },
      { k: "ä".repeat(65) },
      { k: 1 },
      [],
      null,
      "x",
    ]) {
      assert.throws(() => requireLabels(labels), fails("INVALID_LABELS"), JSON.stringify(labels));
    }
    assert.deepEqual(requireLabels({ ["ä".repeat(32)]: "ä".repeat(64) }), { ["ä".repeat(32)]: "ä".repeat(64) });
  });
});

test("every error has a status that clients can act on and says how to recover", () => {
  for (const [code, { status, recovery }] of Object.entries(ERRORS)) {
    assert.ok(status >= 400 && status < 600, code);
    assert.match(recovery, /\.$/, code);
  }
});
