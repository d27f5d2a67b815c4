import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import { shell } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

/** What programs take for the machine's memory and processors is what the sandbox may use. */
suite("limits inside", () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start({ settings: "[sandboxes]\ncpus = 1\n" });
    Object.assign(process.env, server.clientEnv());
  });
  after(() => server?.[Symbol.asyncDispose]());

  const memoryMib = 900;
  const shown = (sandbox: Sandbox): Promise<string> => shell(sandbox, "free -m | awk '/^Mem:/ { print $2 }'; nproc");

  test("every language counts one processor and the sandbox's memory, on a machine that has more", async () => {
    await using sandbox = await Sandbox.create({ memory: `${memoryMib}MiB` });
    assert.equal(await shown(sandbox), `${memoryMib}\n1`);
    const counts: Readonly<Record<string, string>> = {
      python: `python3 -c 'import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))'`,
      node: `node -p 'const os = require("os"); os.availableParallelism() + " " + os.cpus().length'`,
      deno: `deno eval 'console.log(navigator.hardwareConcurrency, 1)'`,
      kernel: `echo $(getconf _NPROCESSORS_ONLN) $(grep -c ^processor /proc/cpuinfo)`,
    };
    for (const [name, command] of Object.entries(counts)) assert.equal(await shell(sandbox, command), "1 1", name);
    assert.equal(await shell(sandbox, `node -p 'require("os").totalmem() / 2 ** 20'`), String(memoryMib));
    const used = Number(await shell(sandbox, `node -p '(os.totalmem() - os.freemem()) / 2 ** 20'`));
    assert.ok(used > 0 && used < memoryMib, `${used} MiB are used`);
  });

  test("the time since the start is the sandbox's, and the tools that read it work", async () => {
    await using sandbox = await Sandbox.create();
    const [inside = Number.NaN] = (await shell(sandbox, "cat /proc/uptime")).split(" ").map(Number);
    const [host = 0] = (await readFile("/proc/uptime", "utf8")).split(" ").map(Number);
    assert.ok(inside < host, `${inside} s inside, ${host} s outside`);
    await shell(sandbox, "uptime && ps aux && top -bn1 && vmstat && swapon --show");
  });

  test("when lxcfs dies, running sandboxes show the host's numbers, new ones start, and later ones show their limits again", async () => {
    await using old = await Sandbox.create({ memory: `${memoryMib}MiB` });
    assert.equal(await shown(old), `${memoryMib}\n1`);
    process.kill(await findLxcfs(server), "SIGKILL");
    const total = /^MemTotal:\s+(\d+) kB/m.exec(await readFile("/proc/meminfo", "utf8"))?.[1];
    const read = "cat /proc/meminfo 2>/dev/null | awk '/^MemTotal/ { print $2 }'";
    // For a moment its files give ENOTCONN.
    await eventually("the kernel's own file", async () => ((await shell(old, read)) === total ? true : null), 30_000);
    await shell(old, "free && uptime && ps aux && nproc && cat /sys/devices/system/cpu/online /proc/stat >/dev/null");
    await eventually(
      "a sandbox that shows its limits",
      async () => {
        await using sandbox = await Sandbox.create({ memory: `${memoryMib}MiB` });
        return (await shown(sandbox)) === `${memoryMib}\n1` ? true : null;
      },
      60_000,
    );
    assert.match(server.logText(), /show the memory and processors of the whole host/);
  });
});

/** The process id of the server's lxcfs, which names a directory of the server. */
async function findLxcfs(server: TestServer): Promise<number> {
  const directory = join(server.dataDirectory, "run/lxcfs");
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (words[0] === "lxcfs" && words.includes(directory)) return Number(pid);
  }
  throw new Error(`No lxcfs of ${directory} is running`);
}
