import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { shell } from "../support/client.ts";
import { eventually } from "../support/eventually.ts";
import { TestServer } from "../support/server.ts";

const PATTERN_PATH = "/proc/sys/kernel/core_pattern";

/**
 * A handler of the host runs as root outside every sandbox, so a crash inside must not start it. The kernel runs it where the host's init is, which
 * may be another root than that of this test: so it is found through the program that has crashed, and writes down there what has.
 */
suite("core handler of the host", () => {
  let directory: string;
  let handler: string;
  let pattern: string | undefined;
  let server: TestServer | undefined;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-core-"));
    handler = `mkdir -p /proc/$1/root${directory}; echo "$2" >>/proc/$1/root${directory}/crashes; cat >/dev/null\n`;
    await writeFile(join(directory, "handler"), handler);
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    pattern = await readFile(PATTERN_PATH, "utf8");
    // A run of this test that was cut off has left its own.
    if (pattern.includes("caisson-core-")) pattern = "core";
    await writeFile(PATTERN_PATH, `|/bin/sh /proc/%P/root${directory}/handler %P %e`);
  });
  after(async () => {
    if (pattern !== undefined) await writeFile(PATTERN_PATH, pattern);
    await server?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const crash = async (limit: string, name: string): Promise<void> => {
    const program = join(directory, name);
    const script = `ulimit -c ${limit}; cp /bin/bash ${program}; ${program} -c 'kill -SEGV $$'`;
    await once(spawn("sh", ["-c", script], { stdio: "ignore" }), "close");
  };

  test("a crash inside does not start it, whatever limit a program asks for, though one outside does with a limit of 0", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.fs.mkdir(directory, { recursive: true });
    await sandbox.fs.writeTextFile(join(directory, "handler"), handler);
    for (const limit of ["", "ulimit -c 0;", "ulimit -c unlimited;", "prlimit --core=0:0 --pid $$;"]) {
      const child = await sandbox.spawn("bash", {
        args: ["-c", `${limit} cp /bin/bash /tmp/inside; /tmp/inside -c 'kill -SEGV $$'`],
        stderr: "null",
      });
      assert.equal((await child.status).code, 128 + 11);
    }
    // The last crash, so that those before would have been reported by then.
    await crash("0", "outside");
    const crashes = await eventually("the handler", async () => {
      const text = await readFile(join(directory, "crashes"), "utf8").catch(() => "");
      return text.includes("outside") ? text.split("\n").filter((name) => name === "outside") : null;
    });
    assert.deepEqual(crashes, ["outside"]);
    assert.equal(await shell(sandbox, `cat ${directory}/crashes 2>/dev/null || echo none`), "none");
  });
});
