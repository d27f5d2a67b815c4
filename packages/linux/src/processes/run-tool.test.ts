import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, open, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { callSync } from "../calls/ffi.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";
import { hasCrashed, runTool, ToolError } from "./run-tool.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

const shell = (script: string, options?: Parameters<typeof runTool>[2]) => runTool("sh", ["-c", script], options);

/** Processes that this one has started and not waited for, also those that have ended. */
async function children(): Promise<readonly string[]> {
  const statuses = (await readdir("/proc"))
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => readFile(`/proc/${pid}/status`, "utf8").catch(() => ""));
  return (await Promise.all(statuses)).filter((status) => status.includes(`\nPPid:\t${process.pid}\n`));
}

async function pipes(): Promise<number> {
  const targets = (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ""));
  return (await Promise.all(targets)).filter((target) => target.startsWith("pipe:")).length;
}

suite("a tool", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-tool-"));
  });
  after(() => rm(directory, { recursive: true }));

  test("gives its standard output, and its last error lines with how it ended", async () => {
    assert.equal(await shell("echo one; echo two >&2"), "one\n");
    const lines: string[] = [];
    const failing = shell("seq 1 25 >&2; exit 7", { onErrorLine: (line) => lines.push(line) });
    await assert.rejects(failing, (error) => {
      assert.ok(error instanceof ToolError);
      assert.deepEqual([error.exitCode, error.signal], [7, null]);
      assert.match(error.message, /^sh ended with code 7: 6\n7\n/);
      return true;
    });
    assert.equal(lines.length, 25);
    await assert.rejects(
      shell("kill -SEGV $$"),
      (error) => hasCrashed(error) && /was killed by SIGSEGV/.test(error.message),
    );
    await assert.rejects(shell("exit 300"), { exitCode: 300 & 0xff });
  });

  test("that is not there is told by its name, and a directory that is not there by both", async () => {
    await assert.rejects(runTool("caisson-no-such-tool", []), (error) => {
      assert.ok(error instanceof ToolError && hasErrorCode(error.cause, "ENOENT"));
      assert.match(error.message, /^caisson-no-such-tool cannot be started \(posix_spawn caisson-no-such-tool: ENOENT/);
      return true;
    });
    await assert.rejects(shell("true", { workingDirectory: join(directory, "none") }), /cannot be started .*ENOENT/);
    await writeFile(join(directory, "plain"), "#!/bin/sh\n");
    await assert.rejects(runTool(join(directory, "plain"), []), /cannot be started .*EACCES/);
  });

  test("reads a text, a file, or nothing", async () => {
    assert.equal(await shell("wc -c", { input: "x".repeat(300_000) }), "300000\n");
    assert.equal(await shell("cat", { input: "" }), "");
    assert.equal(await shell("cat; readlink /proc/self/fd/0"), "/dev/null\n");
    await writeFile(join(directory, "file"), "from a file");
    await using file = await open(join(directory, "file"), "r+");
    assert.equal(await shell("cat; echo ' and back' >&0", { input: file }), "from a file");
    assert.equal(await file.readFile({ encoding: "utf8" }), "", "it is the same open file");
    assert.equal(await readFile(join(directory, "file"), "utf8"), "from a file and back\n");
    assert.equal(await shell("exit 0", { input: "x".repeat(300_000) }), "", "what it does not read does not fail it");
  });

  test("has its variables, its directory and the signals of a fresh program, and no descriptor of this process", async () => {
    const env = { CAISSON_TEST_GIVEN: "a=b c", HOME: undefined };
    assert.equal(await shell('echo "$CAISSON_TEST_GIVEN-$HOME"', { env }), "a=b c-\n");
    assert.equal(await shell("pwd", { workingDirectory: directory }), `${directory}\n`);
    assert.match(await shell("cat /proc/self/status"), /SigBlk:\t0+\n(.*\n)?SigIgn:\t0+\n/);
    await using _file = await open(directory);
    // The shell has one open for a moment, to find their names.
    const opened = (await shell("readlink /proc/$$/fd/*; true")).split("\n");
    assert.equal(opened[0], "/dev/null");
    assert.equal(opened.includes(directory), false);
    assert.equal(await runTool("printf", ["%s|", "", "a b", "ü"]), "|a b|ü|");
  });

  test("is killed by its signal, which is told at once, also while something else holds its output", async () => {
    const controller = new AbortController();
    const [reason, begunMs] = [new Error("enough"), performance.now()];
    const running = shell("sleep 30 & echo $! >pid; wait", { signal: controller.signal, workingDirectory: directory });
    setTimeout(() => controller.abort(reason), 300);
    await assert.rejects(running, reason);
    assert.ok(performance.now() - begunMs < 25_000);
    process.kill(Number(await readFile(join(directory, "pid"), "utf8")));
    await assert.rejects(shell("true", { signal: AbortSignal.abort(reason) }), reason);
  });

  test("has no copy of what this process has closed: its lock is free at once, whatever is being started", async () => {
    const path = join(directory, "locked");
    const lock = (fd: number) => callSync("flock", [fd, LOCK_EX | LOCK_NB], { name: "flock", detail: path });
    const running: Promise<string>[] = [];
    for (let round = 0; round < 100; round += 1) {
      const fd = openSync(path, "w");
      lock(fd);
      running.push(runTool("true", []));
      await new Promise((resolve) => setImmediate(resolve));
      closeSync(fd);
      const other = openSync(path, "w");
      lock(other);
      closeSync(other);
    }
    await Promise.all(running);
  });

  test("leaves nothing: of 60 at once, failing and not, each has ended and was waited for", async () => {
    const before = await pipes();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 60 }, (_, index) => shell(`echo ${index}; exit ${index % 3}`)),
    );
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 20);
    assert.deepEqual(outcomes[27], { status: "fulfilled", value: "27\n" });
    await Promise.allSettled(Array.from({ length: 5 }, () => runTool("caisson-no-such-tool", [])));
    assert.deepEqual(await children(), []);
    assert.ok((await pipes()) <= before);
  });
});
