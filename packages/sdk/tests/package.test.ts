import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { buildSdk } from "../build.ts";

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

  test("has every name that @deno/sandbox exports, but those of apps", async () => {
    const ours = await import(join(built, "index.js"));
    const missing = Object.keys(await import("@deno/sandbox")).filter((name) => !(name in ours));
    assert.deepEqual(missing, []);
  });
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
