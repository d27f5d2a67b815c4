import assert from "node:assert/strict";
import { test } from "node:test";
import { rewriteImports } from "./repl-source.ts";

const BASE = "file:///home/app/";
const LATE = 'globalThis[Symbol.for("caisson.repl")].resolve';

test("static imports become dynamic ones that declare the same names", async () => {
  const cases: readonly (readonly [input: string, output: string])[] = [
    ['import a from "x"', 'const { default: a } = await import("x")'],
    ['import { a, b as c } from "x"; a', 'const { a, b: c } = await import("x"); a'],
    ['import a, { default as b } from "x"', 'const { default: a, default: b } = await import("x")'],
    ['import * as a from "x"', 'const a = await import("x")'],
    ['import a, * as b from "x"', 'const b = await import("x"), { default: a } = b'],
    ['import { "a b" as c } from "x"', 'const { "a b": c } = await import("x")'],
    ['import {} from "x"', 'const {  } = await import("x")'],
    ['import "x"', 'void (await import("x"))'],
    ["import{a}from'x'", 'const { a } = await import("x")'],
    ['import /* all */ { a, // first\n b } from "x"', 'const { a, b } = await import("x")'],
    [
      'import a from "./x.json" with { type: "json" }',
      'const { default: a } = await import("file:///home/app/x.json", { with: {"type":"json"} })',
    ],
    ['import a from "../x.ts"', 'const { default: a } = await import("file:///home/x.ts")'],
    ['import a from "npm:x@1"', 'const { default: a } = await import("npm:x@1")'],
    [
      'import a from "x"\nimport b from "y"',
      'const { default: a } = await import("x")\nconst { default: b } = await import("y")',
    ],
  ];
  for (const [input, output] of cases) assert.equal(await rewriteImports(input, BASE), output);
});

test("imports of types only disappear", async () => {
  assert.equal(await rewriteImports('import type { A } from "./a.ts"; 1', BASE), "; 1");
  assert.equal(await rewriteImports('import type A from "./a.ts"', BASE), "");
  assert.equal(
    await rewriteImports('import { type A, b, type C as D } from "x"', BASE),
    'const { b } = await import("x")',
  );
  assert.equal(await rewriteImports('import { type } from "x"', BASE), 'const { type } = await import("x")');
  assert.equal(await rewriteImports('import type from "x"', BASE), 'const { default: type } = await import("x")');
});

test("relative specifiers of dynamic imports become absolute, also those that are computed", async () => {
  assert.equal(await rewriteImports('await import("./a.ts")', BASE), 'await import("file:///home/app/a.ts")');
  assert.equal(await rewriteImports('await import("a")', BASE), 'await import("a")');
  assert.equal(await rewriteImports("await import(name)", BASE), `await import(${LATE}(name))`);
  const template = "`./$" + "{name}.ts`";
  assert.equal(await rewriteImports(`await import(${template})`, BASE), `await import(${LATE}(${template}))`);
  const withOptions = 'await import("./a.json", { with: { type: "json" } })';
  assert.equal(await rewriteImports(withOptions, BASE), withOptions.replace("./a.json", "file:///home/app/a.json"));
});

test("what only looks like an import is left alone", async () => {
  for (const code of [
    '"import a from b"',
    "// import a from 'b'",
    "const important = 1",
    "import a from",
    "x.import",
    "`import $" + "{1}`",
  ]) {
    assert.equal(await rewriteImports(code, BASE), code);
  }
});
