import assert from "node:assert/strict";
import { mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { runTool } from "@caisson/linux";
import { type Harness, makeHarness, type TestHost } from "../../../testing/harness.ts";
import { makeOciTestHost } from "../../../testing/test-host.ts";
import { isInPrivateNetwork } from "../../../testing/test-private-network.ts";
import { readScript } from "../../../testing/test-sandbox.ts";
import type { RootSpec, RunningSandbox } from "../../runtime.ts";

const network = { nameServers: ["192.0.2.53"] };
const KINDS = ["ephemeral", "persistent"] as const;
/** What the file system of a sandbox's agent directory and the numbers of its layers and ids are, differs from sandbox to sandbox. */
const VARYING: readonly (readonly [RegExp, string])[] = [
  [/\/proc\/self\/fd\/\d+/g, "FD"],
  [/(uid|gid)=18\d{8}/g, "$1=ID"],
  [/\/dev\/loop\d+/g, "LOOP"],
  [/directory-\d+/g, "DIRECTORY"],
  [/\/[^ ]*\/caisson-runtime-\w+/g, "BASE"],
  [/10\.213\.\d+\.\d+/g, "ADDRESS"],
];

const planPath = process.env.CAISSON_FAULT_PLAN ?? "";
const isWarm = ({ trace }: RunningSandbox): boolean => trace.at(-1)?.step === "configure";

suite("warm sandboxes", () => {
  if (!isInPrivateNetwork(import.meta.filename)) return;

  for (const runtimePath of ["crun", "runc"]) {
    suite(runtimePath, () => {
      let warm: Harness;
      let cold: Harness;
      before(async () => {
        const hosts = [
          await makeOciTestHost({ runtimePath, network, warm: { count: 1 } }),
          await makeOciTestHost({ runtimePath, network }),
        ] as const;
        warm = makeHarness(hosts[0], await hosts[0].open());
        cold = makeHarness(hosts[1], await hosts[1].open());
      });
      after(async () => {
        for (const { runtime, host } of [warm, cold]) {
          await runtime.close();
          await host.dispose();
        }
      });

      for (const kind of KINDS) {
        test(`a warm sandbox is what a cold one is, on the ${kind} root`, async () => {
          const [one, other] = await Promise.all([describeSandbox(warm, kind), describeSandbox(cold, kind)]);
          assert.deepEqual(one, other);
        });
      }
    });
  }

  suite("crun", () => {
    let harness: Harness;
    before(async () => {
      const host = await makeOciTestHost({ runtimePath: "crun", network, warm: { count: 1 } });
      harness = makeHarness(host, await host.open());
    });
    after(async () => {
      await harness.runtime.close();
      await harness.host.dispose();
    });

    /** A start that may be cold, and its end. */
    const startAnyhow = async (root: RootSpec, targetPath = "/data"): Promise<RunningSandbox> => {
      const mounts = [{ sourcePath: await harness.host.newDirectory(), targetPath, isReadOnly: false }];
      await harness.host.settle();
      return await harness.runtime.start(await harness.newSpec({ root, mounts }));
    };

    test("nothing in a warm sandbox refers to the placeholder, or to what waited", async () => {
      const sandbox = await harness.start();
      try {
        for (const pid of await processesOf(harness.host, sandbox)) {
          const references = await referencesOf(pid);
          assert.ok(references.length > 5, references.join("\n"));
          for (const reference of references)
            assert.doesNotMatch(reference, /placeholder|\/new\b|unreachable|caisson-runtime-|warm-/, reference);
          const mounts = (await readFile(`/proc/${pid}/mountinfo`, "utf8")).trim().split("\n");
          const ids = new Set(mounts.map((line) => line.split(" ")[0]));
          const roots = mounts.filter((line) => !ids.has(line.split(" ")[1]));
          assert.equal(roots.length, 1, `one mount hangs on nothing else: ${roots.join("\n")}`);
          assert.match(roots[0] ?? "", /^\d+ \d+ \d+:\d+ \/ \/ /);
        }
      } finally {
        await harness.runtime.release(sandbox.id);
      }
    });

    test("links in place of the kernel's directories are refused, and lead nowhere", async () => {
      const outside = await harness.host.newDirectory();
      const root = await harness.host.newRoot("persistent");
      assert.ok(root.kind === "persistent");
      for (const name of ["proc", "sys", "dev", "run", ".caisson"]) {
        await rm(join(root.path, name), { recursive: true, force: true });
        await symlink(outside, join(root.path, name));
        await assert.rejects(startAnyhow(root), { code: "SANDBOX_START_FAILED", message: new RegExp(`/${name} `) });
        assert.deepEqual(await readdir(outside), []);
        await rm(join(root.path, name));
        await mkdir(join(root.path, name));
      }
    });

    test("links in place of a sandbox's own files lead nowhere, and the sandbox starts", async () => {
      const outside = await harness.host.newDirectory();
      await writeFile(join(outside, "file"), "the host's");
      const root = await harness.host.newRoot("persistent");
      assert.ok(root.kind === "persistent");
      for (const path of ["etc/hosts", "etc/resolv.conf", "etc/hostname", "usr/local/bin/deno"]) {
        await rm(join(root.path, path), { force: true });
        await symlink(join(outside, "file"), join(root.path, path));
        const sandbox = await startAnyhow(root);
        assert.ok(!isWarm(sandbox), "an OCI runtime follows it inside");
        await readScript(sandbox, `echo inside >>/${path} || true`);
        await harness.runtime.release(sandbox.id);
        assert.equal(await readFile(join(outside, "file"), "utf8"), "the host's");
        await rm(join(root.path, path));
      }
      assert.deepEqual(harness.host.warnings, [], "such a root is no failure of a warm start");
    });

    test("a link on the way to a volume's place is followed inside", async () => {
      const outside = await harness.host.newDirectory();
      const root = await harness.host.newRoot("persistent");
      assert.ok(root.kind === "persistent");
      await symlink("/srv", join(root.path, "short"));
      await symlink(outside, join(root.path, "trap"));
      const sandbox = await startAnyhow(root, "/short/data");
      assert.ok(isWarm(sandbox));
      assert.match(await readScript(sandbox, "cut -d' ' -f5 /proc/self/mountinfo"), /^\/srv\/data$/m);
      await harness.runtime.release(sandbox.id);
      await assert.rejects(startAnyhow(root, "/trap/data"), { code: "INVALID_CONFIG" });
      assert.deepEqual(await readdir(outside), []);
    });

    test("one that dies while it waits is replaced", async () => {
      await harness.host.settle();
      const before = await waitingProcesses(harness.host);
      process.kill(before[0] ?? 0, "SIGKILL");
      // Another one is made when the end has been noticed.
      while ((await waitingProcesses(harness.host)).every((pid) => before.includes(pid)))
        await new Promise((go) => setTimeout(go, 5));
      await harness.with({}, async (sandbox) => assert.equal(await readScript(sandbox, "echo fine"), "fine"));
    });

    test("each is used once", async () => {
      const seen = new Set<string>();
      for (let round = 0; round < 3; round += 1)
        await harness.with({}, async (sandbox) => void seen.add((await processesOf(harness.host, sandbox)).join()));
      assert.equal(seen.size, 3);
    });

    test("the variables of a sandbox are in no process before the hand-over", async () => {
      await harness.host.settle();
      for (const pid of await waitingProcesses(harness.host))
        assert.doesNotMatch(await readFile(`/proc/${pid}/environ`, "latin1"), /GREETING/);
      await harness.with({ env: { GREETING: "good day" } }, async (sandbox) =>
        assert.equal(await readScript(sandbox, "echo $GREETING"), "good day"),
      );
    });

    for (const kind of KINDS) {
      test(`whatever step of an adoption fails, the sandbox starts cold, and nothing is left: ${kind} root`, async () => {
        const lasting = await harness.host.newRoot("persistent");
        for (const step of STEPS) {
          const root = kind === "persistent" ? lasting : await harness.host.newRoot(kind);
          await harness.host.settle();
          await writeFile(planPath, `runtime.adopt.${step} 1 fail:EIO\n`);
          const sandbox = await startAnyhow(root);
          assert.ok(!isWarm(sandbox), step);
          assert.equal(await readScript(sandbox, "echo fine; test -d /data"), "fine");
          await harness.runtime.release(sandbox.id);
          await writeFile(planPath, "");
          assert.deepEqual(await harness.host.findDebris(), [], step);
          // Another thread serves the next one, and three failures in a row would be the last.
          await harness.with({}, async () => undefined);
        }
        // Without a second try: nothing holds it any more.
        if (lasting.kind === "persistent") await runTool("umount", [lasting.path]);
      });
    }

    test("after three failures in a row everything starts cold, with a warning", async () => {
      for (let round = 0; round < 3; round += 1) {
        await harness.host.settle();
        await writeFile(planPath, `runtime.adopt.attach 1 fail:EIO\n#${round}\n`);
        const sandbox = await startAnyhow(await harness.host.newRoot("ephemeral"));
        await harness.runtime.release(sandbox.id);
      }
      await writeFile(planPath, "");
      assert.match(
        harness.host.warnings.at(-1) ?? "",
        /All sandboxes start cold for the next 10 minutes.*caisson doctor/,
      );
      const sandbox = await startAnyhow(await harness.host.newRoot("ephemeral"));
      assert.ok(!isWarm(sandbox));
      await harness.runtime.release(sandbox.id);
      assert.deepEqual(await harness.host.findDebris(), []);
      // Those that waited are ended in the background.
      while ((await waitingProcesses(harness.host)).length > 0) await new Promise((go) => setTimeout(go, 20));
    });
  });
});

const STEPS = [
  ...["processes", "files", "root", "volumes", "enter", "attach", "keep", "own-files", "mounts", "sizes", "pivot"],
  ...["detach", "leave"],
];

/** All that programs can see of what their sandbox is, and what the host says of its processes. */
async function describeSandbox(harness: Harness, kind: RootSpec["kind"]): Promise<Readonly<Record<string, unknown>>> {
  const [outer, inner, readOnly] = await Promise.all([1, 2, 3].map(() => harness.host.newDirectory()));
  const sandbox = await harness.start({
    root: await harness.host.newRoot(kind),
    hostname: "same.example",
    env: { GREETING: "good day", PATH: "/usr/bin:/bin", TZ: "Asia/Tokyo" },
    mounts: [
      { sourcePath: outer ?? "", targetPath: "/data/outer", isReadOnly: false },
      { sourcePath: inner ?? "", targetPath: "/data/outer/deep/inner", isReadOnly: false },
      { sourcePath: readOnly ?? "", targetPath: "/read only", isReadOnly: true },
      { sourcePath: readOnly ?? "", targetPath: "/run/mine", isReadOnly: true },
    ],
  });
  try {
    const read = async (script: string): Promise<readonly string[]> =>
      (await readScript(sandbox, script)).split("\n").map(normal).sort();
    const pids = await processesOf(harness.host, sandbox);
    const hostLimits = await Promise.all(pids.map(cgroupLimitsOf));
    return {
      mounts: (await read("cat /proc/self/mountinfo")).map(withoutNumbers).sort(),
      status: await read("grep -E '^(Cap|Seccomp|NoNewPrivs|Uid|Gid|Groups|Cpus_allowed_list)' /proc/self/status"),
      limits: await read("cat /proc/self/limits"),
      limitsOfAgent: await read("cat /proc/1/limits; cat /proc/$PPID/limits"),
      oomScores: await read("cat /proc/1/oom_score_adj /proc/$PPID/oom_score_adj /proc/self/oom_score_adj"),
      views: await read(
        "nproc; grep MemTotal /proc/meminfo; cat /proc/swaps; find /proc/acpi /proc/bus /proc/fs /proc/irq; wc -c </proc/kallsyms; ls /sys /sys/*",
      ),
      environment: await read("env"),
      names: await read(
        "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; stat -c '%U %G %a' /etc/hosts /etc/hostname /etc/resolv.conf",
      ),
      directories: await read(
        "pwd; readlink /proc/$PPID/cwd; stat -c '%n %U %G %a' / /home/app /data/outer /run /dev /dev/shm /tmp /proc /sys /.caisson /.caisson/run; df --output=size /dev/shm",
      ),
      namespaces: (await read("ls -l /proc/self/ns")).length,
      time: await read("date +%Z"),
      cgroup: [...new Set(hostLimits.map((limits) => JSON.stringify(limits)))],
      references: [...new Set((await Promise.all(pids.map(referencesOf))).flat().map(normal))].filter(isSteady).sort(),
    };
  } finally {
    await harness.runtime.release(sandbox.id);
  }
}

function normal(text: string): string {
  return VARYING.reduce((result, [pattern, name]) => result.replaceAll(pattern, name), text);
}

/** A line of mountinfo without ids, devices, and propagation, which has no other end on the host any more. */
function withoutNumbers(line: string): string {
  const [before = "", after = ""] = line.split(" - ");
  return `${before.split(" ").slice(3, 6).join(" ")} - ${after}`;
}

/** Sockets, pipes and maps without names have numbers; the current directory of the init is the root where it has waited. */
function isSteady(reference: string): boolean {
  return !/(socket|pipe|anon_inode|pidfd|eventfd|eventpoll):?|^cwd |\[|\(deleted\)|memfd/.test(reference);
}

/** What a process holds: its directories, its program, its files, and what is mapped. */
async function referencesOf(pid: number): Promise<readonly string[]> {
  const links = ["cwd", "root", "exe", ...(await readdir(`/proc/${pid}/fd`)).map((fd) => `fd/${fd}`)];
  const targets = await Promise.all(
    links.map(async (name) => {
      // A descriptor may have been closed meanwhile.
      const target = await readlink(`/proc/${pid}/${name}`).catch(() => null);
      return target === null ? [] : [`${name.split("/")[0]} ${target}`];
    }),
  );
  const maps = (await readFile(`/proc/${pid}/maps`, "utf8")).split("\n").map((line) => line.slice(73).trim());
  return [...targets.flat(), ...new Set(maps.filter((path) => path.startsWith("/")).map((path) => `map ${path}`))];
}

/** Numbers on the host of a sandbox's first process and its agent. */
async function processesOf(host: TestHost, sandbox: RunningSandbox): Promise<readonly number[]> {
  const [, owner = 0] = (await readScript(sandbox, "cat /proc/self/uid_map")).trim().split(/\s+/).map(Number);
  return await processesBy(host, (environment, uid) => uid === owner && environment.includes("CAISSON_AGENT_SOCKET="));
}

/** Those of containers that wait, or have waited. */
async function waitingProcesses(host: TestHost): Promise<readonly number[]> {
  return await processesBy(host, (environment) => /(^|\0)CAISSON_AGENT_REHEARSE=[^\0]/.test(environment));
}

/** Only of this host's runtime: files of tests run side by side, and their sandboxes have the same ids. */
async function processesBy(
  { instance }: TestHost,
  isIt: (environment: string, uid: number) => boolean,
): Promise<readonly number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      try {
        if (!(await readFile(`/proc/${pid}/cgroup`, "utf8")).includes(instance)) return [];
        const environment = await readFile(`/proc/${pid}/environ`, "latin1");
        return isIt(environment, (await stat(`/proc/${pid}`)).uid) ? [pid] : [];
      } catch {
        // Gone meanwhile.
        return [];
      }
    }),
  );
  return found.flat();
}

/** The limits of the cgroups that a process is in. */
async function cgroupLimitsOf(pid: number): Promise<Readonly<Record<string, string>>> {
  const lines = (await readFile(`/proc/${pid}/cgroup`, "utf8")).trim().split("\n");
  const limits: Record<string, string> = {};
  for (const line of lines) {
    const [, controllers = "", path = ""] = line.split(":");
    const directory = join("/sys/fs/cgroup", controllers.replace("name=", ""), path);
    for (const file of LIMIT_FILES) {
      const text = await readFile(join(directory, file), "utf8").catch(() => null);
      if (text !== null) limits[file] = text.trim();
    }
  }
  assert.ok(Object.keys(limits).length > 3, JSON.stringify(limits));
  return limits;
}

const LIMIT_FILES = [
  ...["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"],
  ...["pids.max", "cpuset.cpus", "devices.list", "memory.max", "memory.swap.max", "cpu.max", "cpu.weight"],
];
