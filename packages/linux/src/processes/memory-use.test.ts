import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { Cgroups } from "./cgroup.ts";
import { endProcessForMemory, readMemoryStallUs, readMemoryUse } from "./memory-use.ts";

/** Files as the kernel shows them for a cgroup of version 2. */
const FILES = {
  "memory.current": "268435456\n",
  "memory.stat":
    "anon 266530816\nfile 126976\ninactive_file 100000\nactive_file 26976\nworkingset_refault_file 1365706\n",
  "memory.pressure":
    "some avg10=66.47 avg60=62.72 avg300=45.42 total=249353589\nfull avg10=64.33 avg60=59.61 avg300=40.71 total=214241771\n",
  "memory.max": "268435456\n",
};

suite("use of memory", () => {
  let mountPath: string;
  const cgroups = (version: 1 | 2): Cgroups => ({
    layout: version === 1 ? "v1" : "v2",
    hierarchies: [{ version, mountPath, controllers: ["memory"] }],
    usedControllers: ["memory"],
    hiddenPath: null,
  });
  before(async () => {
    mountPath = await mkdtemp(join(tmpdir(), "caisson-memory-use-"));
    await mkdir(join(mountPath, "full"));
    for (const [name, text] of Object.entries(FILES)) await writeFile(join(mountPath, "full", name), text);
  });
  after(() => rm(mountPath, { recursive: true }));

  test("what the kernel says is read", async () => {
    assert.equal(await readMemoryStallUs(cgroups(2), "/full"), 214_241_771);
    assert.deepEqual(await readMemoryUse(cgroups(2), "/full"), {
      usageBytes: 268_435_456,
      fileBytes: 126_976,
      refaultCount: 1_365_706,
    });
  });

  test("where it says nothing there is nothing", async () => {
    for (const [version, path] of [
      [1, "/full"],
      [2, "/gone"],
    ] as const) {
      assert.equal(await readMemoryStallUs(cgroups(version), path), null);
      assert.equal(await readMemoryUse(cgroups(version), path), null);
      await endProcessForMemory(cgroups(version), path, 1);
    }
    assert.equal(await readFile(join(mountPath, "full/memory.max"), "utf8"), "268435456\n");
  });

  test("the limit is as before once the kernel has been made to end a process", async () => {
    await endProcessForMemory(cgroups(2), "/full", 268_435_456);
    assert.equal((await readFile(join(mountPath, "full/memory.max"), "utf8")).trim(), "268435456");
  });
});
