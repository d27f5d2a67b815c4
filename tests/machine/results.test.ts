import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

const PARTS = "doctor volumes bombs";

suite("results of emulated machines", () => {
  let base: string;
  let directory: string;
  before(async () => {
    base = await mkdtemp(join(tmpdir(), "caisson-machine-results-"));
    directory = join(base, "trixie:xfs");
    await mkdir(directory);
  });
  after(() => rm(base, { recursive: true }));

  /** Runs shell code that uses results.sh; `input` is what a guest says. */
  const run = (code: string, input = ""): { readonly stdout: string; readonly status: number | null } => {
    const script = `set -eu; . ${join(import.meta.dirname, "results.sh")}; ${code}`;
    const { stdout, stderr, status } = spawnSync("sh", ["-c", script], { input, encoding: "utf8" });
    assert.equal(stderr, "");
    return { stdout, status };
  };
  const record = (lines: readonly string[]): string =>
    run(`record_guest '${directory}' '${base}/ended'`, lines.map((line) => `${line}\n`).join("")).stdout;

  test("what a guest says is shown, and recorded for each part", async () => {
    const lines = [
      "== Debian",
      "== machine: begins doctor",
      "all \\well",
      "== machine: doctor passed after 15 s",
      "== machine: begins volumes",
      "failed: a test (tests/volumes.test.ts:7): it was 1",
      "== machine: volumes failed: exit code 1 after 75 s",
    ];
    assert.equal(record([...lines, "machine: ended with 1"]), lines.map((line) => `${line}\n`).join(""));
    assert.equal(await readFile(join(base, "ended"), "utf8"), "1\n");
    assert.match(await readFile(join(directory, "doctor.log"), "utf8"), /^all \\well$/m);
    assert.equal(await readFile(join(directory, "doctor.result"), "utf8"), "passed after 15 s\n");
    assert.equal(await readFile(join(directory, "volumes.result"), "utf8"), "failed: exit code 1 after 75 s\n");
    assert.equal(run(`list_parts_left '${PARTS}' '${directory}'`).stdout, "bombs,");
  });

  test("a machine that goes away has failed in the part that it had begun", async () => {
    record(["== machine: begins bombs"]);
    assert.equal(await readFile(join(base, "ended"), "utf8"), "");
    assert.equal(await readFile(join(directory, "bombs.result"), "utf8"), "failed: the machine went away\n");
    assert.equal(run(`list_parts_left '${PARTS}' '${directory}'`).stdout, "");
  });

  test("the end names every part, and each test that failed", () => {
    assert.deepEqual(run(`print_results '${PARTS}' '${directory}' '${base}/bookworm:ext4'`).stdout.split("\n"), [
      "== results",
      `${"part".padEnd(32)}${"trixie:xfs".padEnd(32)}bookworm:ext4`,
      `${"doctor".padEnd(32)}${"passed after 15 s".padEnd(32)}not run`,
      `${"volumes".padEnd(32)}${"failed: exit code 1 after 75 s".padEnd(32)}not run`,
      `${"bombs".padEnd(32)}${"failed: the machine went away".padEnd(32)}not run`,
      "trixie:xfs volumes failed: a test (tests/volumes.test.ts:7): it was 1",
      "",
    ]);
    assert.notEqual(run(`have_all_passed '${PARTS}' '${directory}'`).status, 0);
    assert.equal(run(`have_all_passed doctor '${directory}'`).status, 0);
  });

  test("a run that goes on keeps what has passed", () => {
    assert.equal(
      run(`forget_failures '${directory}'; list_parts_left '${PARTS}' '${directory}'`).stdout,
      "volumes,bombs,",
    );
  });
});
