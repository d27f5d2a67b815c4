import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { TestServer } from "../../../tests/support/server.ts";
import { buildSdk } from "../build.ts";

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const examples = join(import.meta.dirname, "documentation");
const denoPath = join(dirname(require.resolve("deno/package.json")), "deno");

/** The last line that each example prints. */
const EXPECTED: Readonly<Record<string, string>> = {
  volumes: "Persist me!",
  snapshots: "installed",
  files: "Hello world",
  processes: "Hello, world!",
  environment: "hello secret-key-123",
  timeouts: "Still alive!",
  errors: "Exit code: 42",
  "older-node": "Works",
};

const runtimes = join(import.meta.dirname, "../../../tests/runtimes");
const node20Path = join(runtimes, "node_modules/node/bin/node");
const bunPath = join(dirname(createRequire(join(runtimes, "package.json")).resolve("bun/package.json")), "bin/bun.exe");

/**
 * Programs written for `@deno/sandbox`, in which that name stands for the published form of this package, as with
 * `"@deno/sandbox": "npm:caisson-sandbox"` in a package.json.
 */
suite("examples of the documentation run with the import unchanged", () => {
  let server: TestServer;
  let project: string;
  let env: Record<string, string>;

  before(async () => {
    server = await TestServer.start();
    project = await mkdtemp(join(tmpdir(), "caisson-docs-"));
    await mkdir(join(project, "node_modules/@deno"), { recursive: true });
    await buildSdk(join(project, "node_modules/@deno/sandbox"));
    await symlink(dirname(require.resolve("ws/package.json")), join(project, "node_modules/ws"));
    await writeFile(
      join(project, "package.json"),
      '{ "type": "module", "dependencies": { "@deno/sandbox": "npm:caisson-sandbox" } }',
    );
    await cp(examples, join(project, "examples"), { recursive: true });
    env = { PATH: process.env.PATH ?? "", HOME: project, ...server.clientEnv() };
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(project, { recursive: true });
  });

  const lastLine = (output: string) => output.trim().split("\n").at(-1);

  for (const [name, expected] of Object.entries(EXPECTED)) {
    test(`${name} on Node.js`, async () => {
      const { stdout, stderr } = await run(process.execPath, [join(project, `examples/${name}.ts`)], { env });
      assert.equal(lastLine(stdout), expected, stderr);
    });
  }

  // These prove that the examples are written for that client. The others need what it does not keep to: modifiers that chain, and a
  // close() after which the volume is free.
  for (const name of ["files", "timeouts", "errors", "older-node"]) {
    test(`${name} with the official client`, async () => {
      const { stdout, stderr } = await run(process.execPath, [join(examples, `${name}.ts`)], { env });
      assert.equal(lastLine(stdout), EXPECTED[name], stderr);
    });
  }

  for (const name of ["volumes", "processes", "files", "errors"]) {
    test(`${name} on Deno`, async () => {
      const options = { env: { ...env, DENO_DIR: join(project, ".deno"), DENO_NO_UPDATE_CHECK: "1" }, cwd: project };
      const flags = ["run", "--allow-all", "--node-modules-dir=manual", "--no-remote", "--no-lock"];
      const { stdout, stderr } = await run(denoPath, [...flags, join(project, `examples/${name}.ts`)], options);
      assert.equal(lastLine(stdout), EXPECTED[name], stderr);
    });
  }

  test("older-node on Node.js 20, from both kinds of modules", async () => {
    assert.match((await run(node20Path, ["--version"])).stdout, /^v20\./);
    const source = await readFile(join(examples, "older-node.ts"), "utf8");
    await writeFile(join(project, "older.mjs"), source);
    const body = source.replace(/import (.*) from (".*");/, "const $1 = require($2);\n(async () => {");
    await writeFile(join(project, "older.cjs"), `${body}})();`);
    for (const file of ["older.mjs", "older.cjs"]) {
      const { stdout } = await run(node20Path, [join(project, file)], { env });
      assert.equal(lastLine(stdout), "Works", basename(file));
    }
  });

  for (const name of ["volumes", "processes", "files", "errors"]) {
    test(`${name} on Bun`, async () => {
      const { stdout, stderr } = await run(bunPath, [join(project, `examples/${name}.ts`)], { env });
      assert.equal(lastLine(stdout), EXPECTED[name], stderr);
    });
  }
});
