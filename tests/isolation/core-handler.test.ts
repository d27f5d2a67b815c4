import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { eventually } from "../support/eventually.ts";
import { TestServer } from "../support/server.ts";

const PATTERN_PATH = "/proc/sys/kernel/core_pattern";

/** A handler of the host runs as root outside every sandbox, so a crash inside must not start it. */
suite("core handler of the host", () => {
  let directory: string;
  let pattern: string;
  let server: TestServer;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-core-"));
    const handler = join(directory, "handler");
    // Tells which program has crashed.
    await writeFile(handler, `#!/bin/sh\ncat >/dev/null\necho "$1" >>${directory}/crashes\n`);
    await chmod(handler, 0o755);
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    pattern = await readFile(PATTERN_PATH, "utf8");
    // A run of this test that was cut off has left its own.
    if (pattern.includes("caisson-core-")) pattern = "core";
    await writeFile(PATTERN_PATH, `|${handler} %e`);
  });
  after(async () => {
    await writeFile(PATTERN_PATH, pattern);
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
      // Other tests may crash programs of their own meanwhile.
      return text.includes("outside") ? text.split("\n").filter((name) => /^(in|out)side$/.test(name)) : null;
    });
    assert.deepEqual(crashes, ["outside"]);
  });
});
