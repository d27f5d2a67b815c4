import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { buildSdk, PUBLISHED_NAME } from "../build.ts";

const sdk = join(import.meta.dirname, "..");
const root = join(sdk, "../..");

suite("the published form", () => {
  let directory: string;
  let built: string;
  let tarball: string;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "caisson-package-"));
    built = await buildSdk(join(directory, "sdk"));
    mkdirSync(join(directory, "node_modules"));
    symlinkSync(join(root, "node_modules/ws"), join(directory, "node_modules/ws"));
    execFileSync("npm", ["pack", "--pack-destination", directory], { cwd: built, stdio: "pipe" });
    tarball = join(directory, readdirSync(directory).find((name) => name.endsWith(".tgz")) ?? "");
  });
  after(() => rmSync(directory, { recursive: true }));

  test("has nothing that publint objects to", async () => {
    const { messages } = await publint({ pkgDir: built, strict: true, pack: false });
    assert.deepEqual(messages, []);
  });

  test("has types that are right for import and for require", async () => {
    const result = await checkPackage(createPackageFromTarballData(new Uint8Array(readFileSync(tarball))));
    assert.ok(result.types);
    assert.deepEqual(result.problems, []);
  });

  test("holds the modules, their declarations and the documents, and depends on ws alone", () => {
    const files = readdirSync(built).sort();
    assert.deepEqual(files, [
      "LICENSE",
      "README.md",
      "index.cjs",
      "index.d.cts",
      "index.d.ts",
      "index.js",
      "package.json",
    ]);
    const manifest = JSON.parse(readFileSync(join(built, "package.json"), "utf8"));
    assert.deepEqual(Object.keys(manifest.dependencies), ["ws"]);
    assert.equal("private" in manifest || "devDependencies" in manifest, false);
    const code = readFileSync(join(built, "index.js"), "utf8");
    const imported = [...code.matchAll(/^import .* from "(.*)";$/gm)].map(([, name]) => name);
    assert.deepEqual(
      imported.filter((name) => !name?.startsWith("node:")),
      ["ws"],
    );
  });

  test("exports at run time every class and value that its declarations promise", async () => {
    const declarations = readFileSync(join(built, "index.d.ts"), "utf8");
    const promised = (/^export \{ (.*) \};$/m.exec(declarations)?.[1] ?? "").split(", ").sort();
    assert.ok(promised.includes("Sandbox") && promised.length > 40);
    assert.deepEqual(Object.keys(await import(join(built, "index.js"))).sort(), promised);
    assert.deepEqual(Object.keys(createRequire(import.meta.url)(join(built, "index.cjs"))).sort(), promised);
  });

  test("is installed from its file without a registry, under its own name and in the place of others, and loads", () => {
    const project = join(directory, "project");
    mkdirSync(project);
    writeFileSync(join(project, "package.json"), '{ "name": "empty", "private": true }');
    execFileSync("npm", ["pack", "--ignore-scripts", "--pack-destination", project, join(root, "node_modules/ws")], {
      cwd: project,
      stdio: "pipe",
    });
    const ws = readdirSync(project).find((name) => name.endsWith(".tgz")) ?? "";
    const names = [PUBLISHED_NAME, "@caisson/sdk", "@deno/sandbox"];
    const sources = [`./${ws}`, ...names.map((name) => `${name}@file:${tarball}`)];
    // TMPDIR too: npm keeps its compiled code there.
    const env = { PATH: process.env.PATH ?? "", HOME: project, TMPDIR: directory };
    execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", ...sources], {
      cwd: project,
      env,
      stdio: "pipe",
    });
    for (const name of names) {
      for (const [type, load] of [
        ["module", `const { Sandbox } = await import("${name}")`],
        ["commonjs", `const { Sandbox } = require("${name}")`],
      ] as const) {
        const words = [`--input-type=${type}`, "--eval", `${load}; console.log(typeof Sandbox.create)`];
        assert.equal(execFileSync(process.execPath, words, { cwd: project, encoding: "utf8" }), "function\n", name);
      }
    }
  });

  test("has every name that @deno/sandbox exports, but those of apps", async () => {
    const ours = await import(join(built, "index.js"));
    const missing = Object.keys(await import("@deno/sandbox")).filter((name) => !(name in ours));
    assert.deepEqual(missing, []);
  });
});

test("no document shows users a name on the registry that a stranger could own", () => {
  const guides = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
  const documents = [
    "README.md",
    "packages/sdk/README.md",
    "python/README.md",
    ...guides.map((name) => `docs/${name}`),
  ];
  for (const document of documents) {
    const text = readFileSync(join(root, document), "utf8");
    assert.doesNotMatch(text, /@caisson\//, document);
    // Until it is published it is installed from a file only: see docs/adr/0002-names-on-the-registries.md.
    assert.doesNotMatch(text, new RegExp(`npm (i|install|add) [^\\n]*${PUBLISHED_NAME}(?!-[\\d.]+tgz)`), document);
  }
});

test("programs that are typed for @deno/sandbox are right with our types too", () => {
  const directory = mkdtempSync(join(tmpdir(), "caisson-types-"));
  try {
    const config = {
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        paths: { "@deno/sandbox": [join(sdk, "src/index.ts")] },
        typeRoots: [join(root, "node_modules/@types")],
      },
      include: [join(sdk, "tests/documentation"), join(sdk, "tests/types")],
      exclude: [],
    };
    writeFileSync(join(directory, "tsconfig.json"), JSON.stringify(config));
    const tsc = createRequire(import.meta.url).resolve("../../../node_modules/typescript/bin/tsc");
    execFileSync(process.execPath, [tsc, "-p", directory], { stdio: "pipe", encoding: "utf8" });
  } catch (error) {
    assert.fail((error as { stdout?: string }).stdout || String(error));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("every export is documented, and every link in the documentation leads somewhere", () => {
  const directory = mkdtempSync(join(tmpdir(), "caisson-reference-"));
  try {
    const typedoc = join(createRequire(join(sdk, "package.json")).resolve("typedoc"), "../../bin/typedoc");
    execFileSync(process.execPath, [typedoc, "--out", directory], { cwd: sdk, stdio: "pipe", encoding: "utf8" });
    assert.ok(readdirSync(join(directory, "classes")).includes("Sandbox.html"));
  } catch (error) {
    assert.fail((error as { stderr?: string }).stderr || String(error));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
