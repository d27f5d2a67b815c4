import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { after, before, suite, test } from "node:test";
import {
  type Cgroups,
  cgroupProcesses,
  createCgroup,
  hierarchyOf,
  joinCgroup,
  limitCgroup,
  listCgroups,
  readCgroups,
  removeCgroup,
} from "./cgroup.ts";

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
    assert.deepEqual(await listCgroups(cgroups, parent), ["one"]);
    const child = spawn("sleep", ["1000"]);
    const ended = once(child, "exit");
    await joinCgroup(cgroups, `${parent}/one`, child.pid ?? 0);
    assert.deepEqual(await cgroupProcesses(cgroups, parent), [child.pid]);
    await assert.rejects(removeCgroup(cgroups, `${parent}/one`), { code: "EBUSY" });
    child.kill("SIGKILL");
    await ended;
    await removeCgroup(cgroups, `${parent}/one`);
    await removeCgroup(cgroups, `${parent}/one`);
    assert.deepEqual(await listCgroups(cgroups, parent), []);
  });

  test("limits are what was asked for", async () => {
    await createCgroup(cgroups, parent, "two");
    await limitCgroup(cgroups, `${parent}/two`, { memoryBytes: 300 * 2 ** 20, cpuCount: 1.5, pidsMax: 77 });
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
    await removeCgroup(cgroups, `${parent}/two`);
  });
});
