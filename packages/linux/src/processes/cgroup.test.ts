import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { LoopDevice } from "../blocks/loop-device.ts";
import { openFile, truncateFile } from "../calls/files.ts";
import {
  type Cgroups,
  cgroupProcesses,
  createCgroup,
  diskHierarchy,
  hierarchyOf,
  joinCgroup,
  limitSettings,
  parseProcessors,
  readCgroups,
  readProcessors,
  removeCgroup,
  weightSettings,
  writeCgroup,
  writeCgroupSync,
} from "./cgroup.ts";
import { runTool } from "./run-tool.ts";

const MIB = 2 ** 20;

/** Names of the cgroups directly below `path`, in whatever hierarchy they are. */
async function namesBelow(cgroups: Cgroups, path: string): Promise<readonly string[]> {
  const found = await Promise.all(
    cgroups.hierarchies.map(async ({ mountPath }) => {
      const entries = await readdir(join(mountPath, path), { withFileTypes: true }).catch(() => []);
      return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    }),
  );
  return [...new Set(found.flat())];
}

suite("cgroups", () => {
  const parent = `/caisson-cgroup-test-${process.pid}`;
  let cgroups: Cgroups;
  before(async () => {
    cgroups = await readCgroups();
  });
  after(() => removeCgroup(cgroups, parent));

  test("a process joins, is found, and keeps the cgroup until it ends", async () => {
    await createCgroup(cgroups, parent, "one");
    await createCgroup(cgroups, parent, "one");
    assert.deepEqual(await namesBelow(cgroups, parent), ["one"]);
    const child = spawn("sleep", ["1000"]);
    const ended = once(child, "exit");
    await joinCgroup(cgroups, `${parent}/one`, child.pid ?? 0);
    assert.deepEqual(await cgroupProcesses(cgroups, parent), [child.pid]);
    await assert.rejects(removeCgroup(cgroups, `${parent}/one`), { code: "EBUSY" });
    child.kill("SIGKILL");
    await ended;
    await removeCgroup(cgroups, `${parent}/one`);
    await removeCgroup(cgroups, `${parent}/one`);
    assert.deepEqual(await namesBelow(cgroups, parent), []);
  });

  test("below a cgroup with processes none can be limited, and the error says what to do", async (context) => {
    if (cgroups.layout !== "v2") return context.skip("the kernel has such a rule in version 2 of cgroups only");
    await createCgroup(cgroups, parent, "busy");
    const child = spawn("sleep", ["1000"]);
    const ended = once(child, "exit");
    await joinCgroup(cgroups, `${parent}/busy`, child.pid ?? 0);
    await assert.rejects(createCgroup(cgroups, `${parent}/busy`, "below"), {
      code: "EBUSY",
      message: /--cgroupns=host/,
    });
    child.kill("SIGKILL");
    await ended;
    await removeCgroup(cgroups, `${parent}/busy`);
  });

  test("a limited disk is read and written no faster", async (context) => {
    const limited = await readCgroups({ isDiskLimited: true });
    if (diskHierarchy(limited) === null) return context.skip("the kernel has no cgroup controller for disks");
    const directory = await mkdtemp(join(tmpdir(), "caisson-cgroup-"));
    await using file = await openFile(join(directory, "image"), "wx+");
    await truncateFile(file, 64 * MIB, directory);
    const device = await LoopDevice.attach(file, { isDirect: true });
    try {
      await createCgroup(limited, parent, "disk");
      const numbers = (await readFile(`/sys/block/${basename(device.path)}/dev`, "utf8")).trim();
      const disk = { devices: [numbers], bytesPerSecond: 8 * MIB };
      await writeCgroup(
        limitSettings(limited, `${parent}/disk`, { memoryBytes: 300 * MIB, cpuCount: 1, pidsMax: 77, disk }),
      );
      const procs = join(diskHierarchy(limited)?.mountPath ?? "", parent, "disk/cgroup.procs");
      const copy = async (args: string) => {
        const startedMs = performance.now();
        await runTool("sh", ["-c", `echo $$ >${procs}; exec dd ${args} bs=1M count=8 status=none`]);
        return performance.now() - startedMs;
      };
      const read = await copy(`if=${device.path} of=/dev/null iflag=direct`);
      const write = await copy(`if=/dev/zero of=${device.path} oflag=direct`);
      assert.ok(read > 800 && write > 800, `read ${read} ms, write ${write} ms`);
    } finally {
      await device.detach();
      await rm(directory, { recursive: true });
    }
  });

  test("lists of processors are read as the kernel writes them", () => {
    assert.deepEqual(parseProcessors("0-2,5,8-9\n"), [0, 1, 2, 5, 8, 9]);
    assert.deepEqual(parseProcessors("\n"), []);
  });

  test("limits are what was asked for", async () => {
    await createCgroup(cgroups, parent, "two");
    const [processor = 0] = await readProcessors(cgroups);
    const limits = { memoryBytes: 300 * 2 ** 20, cpuCount: 1.5, pidsMax: 77, processors: [processor] };
    const path = `${parent}/two`;
    await writeCgroup(weightSettings(cgroups, path, "low"));
    writeCgroupSync(limitSettings(cgroups, path, limits));
    const read = async (controller: string, v1: string, v2: string): Promise<string> => {
      const hierarchy = hierarchyOf(cgroups, controller);
      assert.ok(hierarchy !== null, controller);
      return (
        await readFile(`${hierarchy.mountPath}${parent}/two/${hierarchy.version === 1 ? v1 : v2}`, "utf8")
      ).trim();
    };
    assert.equal(await read("memory", "memory.limit_in_bytes", "memory.max"), String(300 * 2 ** 20));
    assert.match(await read("cpu", "cpu.cfs_quota_us", "cpu.max"), /^150000( 100000)?$/);
    assert.equal(await read("pids", "pids.max", "pids.max"), "77");
    assert.equal(await read("cpuset", "cpuset.cpus", "cpuset.cpus"), String(processor));
    assert.match(await read("cpu", "cpu.shares", "cpu.weight"), /^10(2)?$/);
    writeCgroupSync(weightSettings(cgroups, path, "normal"));
    assert.match(await read("cpu", "cpu.shares", "cpu.weight"), /^10(0|24)$/);
    const absent = [{ path: `/sys/fs/cgroup${path}/absent`, value: "1" }];
    assert.throws(() => writeCgroupSync(absent), { code: "ENOENT" });
    await assert.rejects(writeCgroup(absent), { code: "ENOENT" });
    await removeCgroup(cgroups, path);
  });
});
