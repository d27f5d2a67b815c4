import assert from "node:assert/strict";
import { test } from "node:test";
import { hasGlob, parseLocation } from "./location.ts";

const ID = "sbx_ord_0123456789abcdefghjk";

test("only a sandbox's id makes a colon special", () => {
  assert.deepEqual(parseLocation(`${ID}:/a:b`), { sandboxId: ID, path: "/a:b" });
  assert.deepEqual(parseLocation(`${ID}:`), { sandboxId: ID, path: "." });
  assert.deepEqual(parseLocation("C:/file"), { sandboxId: null, path: "C:/file" });
  assert.deepEqual(parseLocation("./sbx_x"), { sandboxId: null, path: "./sbx_x" });
});

test("what was meant as an id and is none is refused, not taken for a file", () => {
  assert.throws(() => parseLocation("sbx_ord_123:/a"), /Invalid sandbox id "sbx_ord_123"/);
  assert.throws(() => parseLocation(ID), /names no path/);
});

test("globs are told by their characters", () => {
  assert.deepEqual(["*.txt", "a?", "[ab]", "{a,b}", "plain"].map(hasGlob), [true, true, true, true, false]);
});
