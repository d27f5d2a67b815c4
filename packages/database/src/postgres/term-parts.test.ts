import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { termParts } from "./term-parts.ts";

suite("the parts that a term is found by, PostgreSQL", () => {
  const sample = ["build-cache-1", "build-cache-22", "build-cache-333", "tools"];

  test("leave out what many slugs have, unless all of them are such", () => {
    assert.deepEqual(termParts("cache-22", sample), ["e-2", "-22"]);
    assert.deepEqual(termParts("cache", sample), ["cac", "ach", "che"]);
  });

  test("have what is not a letter or a digit, once each", () => {
    assert.deepEqual(termParts("a--a--", []), ["a--", "--a", "-a-"]);
    assert.deepEqual(termParts("cache-build", sample), ["e-b", "-bu"]);
  });

  test("are the term itself where it is short", () => {
    for (const term of ["z", "zz", "zzz"]) assert.deepEqual(termParts(term, sample), [term]);
    assert.deepEqual(termParts("c", sample), ["c"], "also where many have it");
  });
});
