import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { runTool } from "@caisson/linux";
import { loadConfig } from "../config.ts";
import {
  checkDisk,
  checkPools,
  isOnPath,
  judgeCacheDisk,
  judgeDataDisk,
  judgePrivileges,
  judgeTools,
  readTools,
} from "./host-checks.ts";
import { runDoctor } from "./index.ts";
import { checkFileSystems, checkSpaceLimits, checkVersion, judgeCgroups, judgeTracing } from "./kernel-checks.ts";
import {
  judgeDescriptors,
  judgeMemory,
  judgePlaces,
  judgeProcesses,
  judgeTerminals,
  judgeUndivided,
} from "./limit-checks.ts";
import { checkOciRuntime, checkWarmStart, judgeFirewall, judgeNameServers } from "./sandbox-checks.ts";
import { checkSpeed, judgeSpeed } from "./speed-check.ts";

suite("doctor", () => {
  test("every check of this host has a name of its own, something found, and a remedy unless it is well", async () => {
    const checks = await runDoctor({
      databaseUrl: null,
      snapshotStore: null,
      pool: { replicated: null },
      dataDirectory: "/var/lib/caisson",
      sandboxes: loadConfig({ dataDirectory: "/nowhere" }, {}).sandboxes,
      network: { isPrivateAllowed: false },
    });
    assert.equal(new Set(checks.map(({ name }) => name)).size, checks.length);
    for (const { name, status, found, remedy } of checks) {
      assert.notEqual(found, "", name);
      assert.equal(remedy === null, status === "ok", name);
    }
    for (const name of ["kernel", "OCI runtime", "packet filter", "cgroups", "Debian mirror", "tracing of writes"]) {
      assert.equal(checks.find((check) => check.name === name)?.status, "ok", name);
    }
  });

  test("an old kernel is named with the version that is needed", () => {
    assert.equal(checkVersion("5.10.0-28-amd64").status, "missing");
    assert.match(checkVersion("5.18.9").remedy ?? "", /5\.19/);
    assert.equal(checkVersion("5.19.0").status, "ok");
    assert.equal(checkVersion("6.1.0-18-amd64").status, "ok");
  });

  test("file systems may be loadable, and one with reflink is enough", async () => {
    const never = async (): Promise<boolean> => false;
    assert.equal((await checkFileSystems("nodev overlay\n ext4\n btrfs\n", never)).status, "ok");
    assert.match((await checkFileSystems("nodev overlay\n ext4\n", never)).remedy ?? "", /xfs/);
    assert.match((await checkFileSystems(" ext4\n xfs\n", never)).remedy ?? "", /overlay/);
    assert.equal((await checkFileSystems("", async () => true)).status, "ok");
  });

  test("the layout of cgroups is named, and what it cannot limit", () => {
    const unified = { version: 2, mountPath: "/sys/fs/cgroup" } as const;
    const cgroups = (controllers: readonly string[]) =>
      ({ layout: "v2", hierarchies: [{ ...unified, controllers }], usedControllers: [], hiddenPath: null }) as const;
    assert.deepEqual(judgeCgroups(cgroups(["cpu", "io", "memory", "pids"])), {
      name: "cgroups",
      status: "ok",
      found: "version 2, with memory, cpu and pids; disks can be limited",
      remedy: null,
    });
    assert.equal(judgeCgroups(cgroups(["cpu", "memory", "pids"])).found, "version 2, with memory, cpu and pids");
    assert.match(judgeCgroups(cgroups(["cpu", "pids"])).remedy ?? "", /no limit on memory/);
    assert.equal(judgeCgroups({ ...cgroups([]), layout: "none", hierarchies: [] }).status, "missing");
  });

  test("a host whose file systems cannot be limited is a warning that says what a full pool loses", async () => {
    assert.equal((await checkSpaceLimits("/sys/fs")).status, "ok");
    const { status, remedy } = await checkSpaceLimits("/nowhere");
    assert.deepEqual([status, /In a full pool.*lost/.test(remedy ?? "")], ["warning", true]);
  });

  test("a host that lets nobody trace writes is a warning that says what will be refused", () => {
    const check = judgeTracing("fsopen tracefs: ENODEV");
    assert.deepEqual([check.status, check.found], ["warning", "fsopen tracefs: ENODEV"]);
    assert.match(check.remedy ?? "", /fragmented volumes are refused/);
  });

  test("missing privileges are named one by one", () => {
    assert.equal(judgePrivileges(0, "000001ffffffffff").status, "ok");
    assert.equal(judgePrivileges(1000, "0").status, "missing");
    assert.match(judgePrivileges(0, "000001ffffdfffff").found, /^root without CAP_SYS_ADMIN$/);
  });

  test("limits that sandboxes share are computed, and the setting that is too small is named", () => {
    const little = judgeProcesses({ total: 28_672, setting: "kernel.pid_max" }, 4096, 251);
    assert.match(little.found, /^28672 for sandboxes: 1852 for the first, at least 57 for each of 251/);
    assert.match(little.remedy ?? "", /sysctl kernel\.pid_max=4194304; or .*sandboxes\.pids/);
    assert.equal(judgeProcesses({ total: 200_000, setting: "kernel.threads-max" }, 4096, 251).status, "ok");
    assert.equal(judgeTerminals({ total: 3072, setting: "kernel.pty.max" }, 251).status, "ok");
    assert.match(
      judgeTerminals({ total: 100, setting: "kernel.pty.max" }, 251).remedy ?? "",
      /sysctl kernel\.pty\.max=4096/,
    );
    assert.equal(judgeUndivided([]).status, "ok");
    assert.match(judgeUndivided(["fs.file-max"]).remedy ?? "", /sysctl fs\.file-max=9223372036854775807$/);
  });

  test("a host with fewer places, descriptors or memory than the settings ask for is a warning that names what to change", () => {
    const places = { total: 448, kept: 45, keptEach: 2, perOrganization: 250 };
    assert.equal(judgePlaces(places, 448, { count: 448, bound: null }).status, "ok");
    const few = judgePlaces(places, 1000, { count: 448, bound: "the host has process ids for 448 (kernel.pid_max)" });
    assert.equal(few.status, "warning");
    assert.match(few.found, /^448, 250 for one organization, the last 45 /);
    assert.match(few.remedy ?? "", /sandboxes\.max is 1000, but .*kernel\.pid_max/);
    assert.equal(judgeDescriptors(20_000, 1000).status, "ok");
    assert.match(judgeDescriptors(4096, 1000).remedy ?? "", /13024 or more for 1000 sandboxes/);
    assert.equal(judgeMemory({ max: 500 }, 24 * 2 ** 30).status, "ok");
    assert.equal(judgeMemory({ max: 251 }, 2 ** 30).status, "ok");
    assert.match(judgeMemory({ max: 1000 }, 24 * 2 ** 30).remedy ?? "", /1000 sandboxes \(sandboxes\.max\) take/);
  });

  test("a firewall that drops forwarded packets is a warning", () => {
    const chain = { family: "ip", table: "filter", name: "FORWARD", hook: "forward", policy: "drop" };
    assert.match(judgeFirewall(JSON.stringify({ nftables: [{ metainfo: {} }, { chain }] })).found, /ip filter FORWARD/);
    const accepting = { ...chain, policy: "accept" };
    assert.equal(judgeFirewall(JSON.stringify({ nftables: [{ chain: accepting }] })).status, "ok");
  });

  test("the tools are those that set-up installs, and a missing one is named with its package", async () => {
    const tools = await readTools();
    for (const command of ["pgrep", "setpriv", "nft", "mkfs.xfs"])
      assert.ok(
        tools.some((tool) => tool.command === command),
        command,
      );
    const check = judgeTools(tools, [
      { command: "pgrep", packageName: "procps" },
      { command: "e2fsck", packageName: "e2fsprogs" },
      { command: "resize2fs", packageName: "e2fsprogs" },
    ]);
    assert.equal(check.status, "missing");
    assert.equal(check.remedy, "Install them: apt-get install procps e2fsprogs");
    assert.equal(await isOnPath("sh"), true);
    assert.equal(await isOnPath("no-such-program"), false);
  });

  test("an OCI runtime that is there and cannot start a sandbox is missing, with what it said", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-doctor-"));
    const broken = join(directory, "crun");
    const script = 'case "$*" in *--version) echo crun version 99 ;; *) echo no namespaces today >&2; exit 1 ;; esac';
    await writeFile(broken, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const check = await checkOciRuntime([join(directory, "absent"), broken, "crun"]);
    assert.equal(check.status, "missing");
    assert.match(check.found, /^crun version 99 does not work: no namespaces today$/);
    await rm(directory, { recursive: true });
  });

  test("each OCI runtime of this host can start a sandbox, and trying it leaves nothing", async () => {
    assert.equal((await checkOciRuntime(["crun"])).status, "ok");
    assert.match((await checkOciRuntime(["runc"])).remedy ?? "", /^It works, but/);
    assert.match((await checkOciRuntime(["no-such-runtime"])).found, /neither/);
    const names = (await readdir(tmpdir())).filter((name) => /^caisson-(?:try|oci)-/.test(name));
    assert.deepEqual(names, []);
  });

  test("a warm start is tried, which leaves nothing, and says what it met", async () => {
    for (const path of ["crun", "runc"]) {
      const check = await checkWarmStart([path]);
      assert.deepEqual([check.status, check.found], ["ok", `works with ${path}`]);
    }
    const directory = await mkdtemp(join(tmpdir(), "caisson-doctor-"));
    // runc does so on a busy machine: the agent is ready before the first process is written down.
    const late = join(directory, "late");
    const rename = '( (sleep 0.3; mv "$path.late" "$path") 2>/dev/null & )';
    const delayed = `args=("$@"); for i in "\${!args[@]}"; do [ "\${args[i]}" = --pid-file ] || continue; path=\${args[i+1]}; args[i+1]=$path.late; ${rename}; done`;
    await writeFile(late, `#!/bin/bash\n${delayed}\nexec crun "\${args[@]}"\n`, { mode: 0o755 });
    assert.equal((await checkWarmStart([late])).found, `works with ${late}`);
    const broken = join(directory, "crun");
    const script = 'case "$*" in *--version) echo crun version 99 ;; *) echo no namespaces today >&2; exit 1 ;; esac';
    await writeFile(broken, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const check = await checkWarmStart([broken]);
    assert.equal(check.status, "warning");
    assert.match(check.found, /no namespaces today/);
    assert.match(check.remedy ?? "", /warm_sandboxes = 0/);
    const fresh = await checkWarmStart(["crun"], join(directory, "agent.js"));
    assert.match(fresh.found, /^not tried: .* not bundled yet$/);
    assert.match(fresh.remedy ?? "", /`caisson up` bundles it/);
    await rm(directory, { recursive: true });
    const left = (await readdir(tmpdir())).filter((name) => name.startsWith("caisson-try-"));
    assert.deepEqual(left, []);
  });

  test("no reachable name server is a warning", () => {
    assert.equal(judgeNameServers([]).status, "warning");
    assert.equal(judgeNameServers(["192.0.2.53"]).status, "ok");
  });

  test("the disk of a directory that does not exist yet is that of the nearest one that does", async () => {
    const { found } = await checkDisk("/tmp/not/there/yet", judgeDataDisk);
    assert.match(found, /free for \/tmp\/not\/there\/yet$/);
  });

  test("a disk that volumes will soon fill is a warning; for the images alone the same space is enough", () => {
    const judge = (bytes: number) => [judgeDataDisk("/data", bytes).status, judgeCacheDisk("/cache", bytes).status];
    assert.deepEqual(judge(30e9), ["ok", "ok"]);
    assert.deepEqual(judge(6e9), ["warning", "ok"]);
    assert.deepEqual(judge(2e9), ["missing", "missing"]);
  });

  test("the speed of the disk is told, with what its layout costs a volume and what would make it better", () => {
    const speed = (syncsPerSecond: number) => ({ syncsPerSecond, writtenBytesPerSecond: 5e8, readBytesPerSecond: 1e9 });
    const judge = (disk: number, volume: number, hasPoolFile: boolean) =>
      judgeSpeed({ disk: speed(disk), volume: speed(volume), hasPoolFile });
    const slow = judge(10_000, 4_000, true);
    assert.equal(slow.status, "warning");
    assert.match(slow.found, /^10000 synced writes, .* in a volume 4000 .*: 40 % .* two loop devices/);
    assert.match(slow.remedy ?? "", /mkfs\.xfs/);
    assert.equal(judge(10_000, 9_000, true).status, "ok");
    assert.equal(judge(10_000, 6_000, false).status, "ok");
    assert.match(judge(100, 90, false).remedy ?? "", /The disk itself/);
  });

  test("a disk that cannot be measured is a warning with the reason, and measuring leaves nothing", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-doctor-"));
    assert.match((await checkSpeed(join(directory, "not/there/yet"))).found, /synced writes/);
    assert.deepEqual(await readdir(directory), []);
    await rm(directory, { recursive: true });
    assert.match((await checkSpeed("/proc/self")).found, /^not measured: /);
  });

  test("a pool with a reverse map is a warning, and one without is well", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-doctor-"));
    const pool = join(directory, "regions/ord/pool");
    await mkdir(pool, { recursive: true });
    const make = async (rmapbt: 0 | 1): Promise<void> => {
      await writeFile(join(pool, "pool.xfs"), "");
      await truncate(join(pool, "pool.xfs"), 512 * 2 ** 20);
      await runTool("mkfs.xfs", ["-q", "-f", "-m", `reflink=1,rmapbt=${rmapbt}`, join(pool, "pool.xfs")]);
    };
    await make(0);
    assert.equal((await checkPools(directory)).status, "ok");
    await make(1);
    const check = await checkPools(directory);
    assert.equal(check.status, "warning");
    assert.match(check.found, /rmapbt: .*pool\.xfs$/);
    await rm(directory, { recursive: true });
  });
});
