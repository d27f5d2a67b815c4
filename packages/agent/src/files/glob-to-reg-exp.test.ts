import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { type GlobOptions, globToRegExp } from "./glob-to-reg-exp.ts";
import { isGlob } from "./is-glob.ts";
import { absolutePath, baseName, joinPath, normalizePath } from "./path-text.ts";

/** The Deno standard library as the official client ships it: what the agent has to agree with (protocol.md 4.2.1). */
const client = dirname(createRequire(import.meta.url).resolve("@deno/sandbox"));
const stdPath = join(client, "../esm/deps/jsr.io/@std/path/1.1.4");

interface StdPath {
  readonly globToRegExp: (glob: string, options: GlobOptions) => RegExp;
  readonly isGlob: (text: string) => boolean;
  readonly normalize: (path: string) => string;
  readonly join: (...parts: string[]) => string;
  readonly basename: (path: string) => string;
  readonly resolve: (...parts: string[]) => string;
}

async function loadStd(): Promise<StdPath> {
  const files = ["glob_to_regexp", "is_glob", "normalize", "join", "basename", "resolve"];
  return Object.assign({}, ...(await Promise.all(files.map((file) => import(join(stdPath, `${file}.js`))))));
}

const std = await loadStd();

/** Texts made of the pieces that mean something in a glob, far more often than random characters would. */
const pieces =
  "a b c . .. - ! ^ $ & é ** * ? [ ] { } , ( ) | + @ \\ / / // [:alpha:] [:upper:] [:nothing:] : !( +( @( ?( *( [! [^ [a-c]".split(
    " ",
  );
const glob = fc
  .array(fc.constantFrom(...pieces, "\n", " "), { minLength: 0, maxLength: 12 })
  .map((parts) => parts.join(""));
const options = fc.record({ extended: fc.boolean(), globstar: fc.boolean(), caseInsensitive: fc.boolean() });
const subjects = [
  "",
  "a",
  "b",
  "B",
  "/",
  "a/b",
  "ab",
  "/a",
  "a/b/c",
  "-",
  ".",
  "!",
  "*",
  "(a)",
  "aa/bb",
  "\\",
  "[",
  "]",
  "{a,b}",
  "é",
  "a\nb",
  ":",
];

test("a glob becomes the regular expression that the Deno standard library makes of it", () => {
  fc.assert(
    fc.property(glob, options, (text, how) => {
      const expected = attempt(() => std.globToRegExp(text, how));
      const actual = attempt(() => globToRegExp(text, how));
      assert.equal(typeof actual, typeof expected, `${JSON.stringify(text)}: ${actual} instead of ${expected}`);
      if (typeof expected === "string" || typeof actual === "string") return;
      assert.equal(actual.flags, expected.flags);
      for (const subject of subjects) {
        assert.equal(actual.test(subject), expected.test(subject), JSON.stringify({ text, subject, how }));
      }
      if (!text.includes("[:")) assert.equal(actual.source, expected.source);
    }),
    { numRuns: 20_000 },
  );
});

test("a text has magic characters when the Deno standard library says so", () => {
  fc.assert(
    fc.property(glob, (text) => assert.equal(isGlob(text), std.isGlob(text), JSON.stringify(text))),
    { numRuns: 20_000 },
  );
});

test("paths are joined, normalised and split as in the Deno standard library", () => {
  const path = fc
    .array(fc.constantFrom("a", "b", ".", "..", "/", "/", "...", ".a"), { maxLength: 10 })
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(path, path, (first, second) => {
      assert.equal(normalizePath(first), std.normalize(first));
      assert.equal(joinPath(first, second), std.join(first, second));
      assert.equal(baseName(first), std.basename(first));
      assert.equal(absolutePath("/home/app", first), std.resolve("/home/app", first));
    }),
    { numRuns: 10_000 },
  );
});

function attempt(make: () => RegExp): RegExp | string {
  try {
    return make();
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
}
