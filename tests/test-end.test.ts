import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { endChild, testTimeoutMs } from "@caisson/linux/testing";

const scripts = join(import.meta.dirname, "../scripts");

test("a program that stands still ends by a signal that it would otherwise take later", async () => {
  const child = spawn("sleep", ["1000"]);
  child.kill("SIGSTOP");
  assert.equal(await endChild(child, "SIGTERM"), null);
  assert.equal(child.signalCode, "SIGTERM");
  assert.equal(await endChild(child, "SIGTERM"), null, "it has ended already");
});

/** What a file of tests leaves open does not keep the suite from ending (scripts/test-end.ts). */
suite("a test file", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-test-end-"));
  });
  after(() => rm(directory, { recursive: true }));

  /** Runs a file of tests as test.sh does. Returns its exit code and what the report says. */
  const run = async (code: string, timeoutMs: number): Promise<readonly [number | null, string]> => {
    const [file, report] = [join(directory, "given.test.ts"), join(directory, "report")];
    await writeFile(file, `import { after, before, suite, test } from "node:test";\n${code}`);
    const { NODE_TEST_CONTEXT: _own, ...env } = process.env;
    const reporters = [`--test-reporter=${scripts}/test-report.ts`, `--test-reporter-destination=${report}`];
    const { status } = spawnSync(
      process.execPath,
      ["--import", `${scripts}/test-end.ts`, "--test", ...reporters, file],
      { env: { ...env, CAISSON_TEST_END_TIMEOUT_MS: `${timeoutMs}` }, timeout: testTimeoutMs(120_000) },
    );
    return [status, await readFile(report, "utf8")];
  };

  const child = 'require("node:child_process").spawn("sleep", ["1000.25"]);';
  for (const [what, code] of [
    ["a test", `test("fails", () => { ${child} throw new Error("no"); });`],
    [
      "a hook",
      `suite("s", () => { before(() => { ${child} throw new Error("no"); }); test("is not run", () => {}); });`,
    ],
    ["a test that passes", `test("passes", () => { ${child} });`],
  ] as const)
    test(`fails and ends with the program that ${what} has left, which the report names`, async () => {
      const [status, report] = await run(
        `import { createRequire } from "node:module"; const require = createRequire("/"); ${code}`,
        1,
      );
      assert.equal(status, 1);
      assert.match(report, /^failed: still open after the last test \(.*given\.test\.ts\): .*sleep 1000\.25$/m);
      assert.equal(spawnSync("pgrep", ["-f", "^sleep 1000\\.25$"]).status, 1);
    });

  test("that leaves nothing open ends at once", async () => {
    const [status, report] = await run('test("passes", () => {});', 600_000);
    assert.deepEqual([status, report], [0, ""]);
  });
});
