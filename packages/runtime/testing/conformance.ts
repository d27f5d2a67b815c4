import assert from "node:assert/strict";
import { lstat, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runTool } from "@caisson/linux";
import { CaissonError, newId } from "@caisson/model";
import type { MountSpec } from "../src/runtime.ts";
import { describeFaultConformance } from "./conformance-faults.ts";
import { describeIsolationConformance } from "./conformance-isolation.ts";
import { describeLimitConformance } from "./conformance-limits.ts";
import { describeNetworkConformance } from "./conformance-network.ts";
import { type Harness, makeHarness, type TestHost } from "./harness.ts";
import { readScript, runScript } from "./test-sandbox.ts";

export interface ConformanceOptions {
  /** False leaves away what takes long, because it waits for packets that must not come. Default: true. */
  readonly hasNetwork?: boolean;
}

/** The promises of `SandboxRuntime`, checked on one implementation. */
export function describeRuntimeConformance(
  name: string,
  makeHost: () => Promise<TestHost>,
  { hasNetwork = true }: ConformanceOptions = {},
): void {
  describe(`runtime conformance: ${name}`, () => {
    let harness: Harness;

    before(async () => {
      const host = await makeHost();
      harness = makeHarness(host, await host.open());
    });

    after(async () => {
      await harness.runtime.close();
      const debris = await harness.host.findDebris();
      await harness.host.dispose();
      assert.deepEqual(debris, [], "closing the runtime leaves nothing");
    });

    describeLifeConformance(() => harness);
    describeRootConformance(() => harness);
    describeIsolationConformance(() => harness);
    describeLimitConformance(() => harness);
    if (hasNetwork) describeNetworkConformance(() => harness);
    describeFaultConformance(() => harness);
  });
}

function describeLifeConformance(harness: () => Harness): void {
  describe("life", () => {
    test("a started sandbox answers, with its own name, defaults and variables", async () => {
      await harness().with({ env: { GREETING: "good day", PATH: "/opt/mine:/usr/bin:/bin" } }, async (sandbox) => {
        const lines = (
          await readScript(sandbox, 'id -u; pwd; hostname; echo "$HOME $LANG $GREETING $PATH"; env')
        ).split("\n");
        assert.deepEqual(lines.slice(0, 4), [
          "0",
          "/home/app",
          sandbox.id.replaceAll("_", "-"),
          "/home/app C.UTF-8 good day /opt/mine:/usr/bin:/bin",
        ]);
        assert.deepEqual(
          lines.filter((line) => /^(CAISSON|DENO_DIR|DENO_NO_UPDATE)/.test(line)),
          [],
          "the agent's own variables stay with it",
        );
        assert.ok(sandbox.trace.length > 0 && sandbox.trace.every(({ durationMs }) => durationMs >= 0));
      });
    });

    test("stopping lets the agent say good-bye, ends every process and gives the directories back", async () => {
      const root = await harness().host.newRoot("ephemeral");
      const sandbox = await harness().start({ root });
      await readScript(sandbox, "setsid sleep 1000 >/dev/null 2>&1 &");
      assert.deepEqual(await harness().runtime.list(), [sandbox.id]);
      const { agentSocketPath } = sandbox;
      await harness().runtime.release(sandbox.id);
      await sandbox.exited;
      assert.notEqual(sandbox.agentSocketPath, agentSocketPath, "where it was may be the agent of another by now");
      assert.ok(root.kind === "ephemeral");
      await lstat(join(root.scratchPath, "upper/home/app/said-good-bye"));
      assert.deepEqual(await harness().host.findDebris(), []);
      assert.deepEqual(await harness().runtime.list(), []);
    });

    for (const end of ["stop", "release"] as const)
      test(`${end} twice, at the same time, or of what never started, is success`, async () => {
        const { runtime } = harness();
        const { id } = await harness().start();
        await Promise.all([runtime[end](id), runtime[end](id)]);
        await runtime[end](id);
        await runtime[end](newId("sbx", "ord"));
        await runtime.release(id);
        assert.deepEqual(await harness().host.findDebris(), []);
      });

    test("one id cannot be started twice", async () => {
      await harness().with({}, async ({ id }) => {
        const again = await harness().newSpec({ id });
        await assert.rejects(harness().runtime.start(again), /started already/);
        assert.deepEqual(await harness().runtime.list(), [id], "the first one runs on");
      });
    });

    test("exited resolves when everything inside is killed from inside", async () => {
      await harness().with({}, async (sandbox) => {
        void runScript(sandbox, "kill -KILL $PPID").catch(() => undefined);
        await sandbox.exited;
      });
      assert.deepEqual(await harness().host.findDebris(), []);
    });

    test("an aborted start leaves nothing and rejects with the reason", async () => {
      const controller = new AbortController();
      const starting = harness().runtime.start(await harness().newSpec(), controller.signal);
      // A warm start may be over in 5 ms.
      setImmediate(() => controller.abort(new Error("changed my mind")));
      await assert.rejects(starting, /changed my mind/);
      assert.deepEqual(await harness().host.findDebris(), []);
    });

    test("stop during a start ends it", async () => {
      const spec = await harness().newSpec();
      const starting = harness().runtime.start(spec);
      const outcome = assert.rejects(starting, { code: "SANDBOX_START_FAILED" });
      await new Promise((resolve) => setImmediate(resolve));
      await harness().runtime.release(spec.id);
      await outcome;
      assert.deepEqual(await harness().host.findDebris(), []);
    });

    test("ten starts at a time all succeed", async () => {
      const { runtime } = harness();
      const specs = await Promise.all(Array.from({ length: 10 }, () => harness().newSpec()));
      const sandboxes = await Promise.all(specs.map((spec) => runtime.start(spec)));
      const maps = await Promise.all(sandboxes.map((sandbox) => readScript(sandbox, "cat /proc/self/uid_map")));
      assert.equal(new Set(maps).size, 10, "every sandbox has ids of its own");
      await Promise.all(sandboxes.map(({ id }) => harness().runtime.release(id)));
      assert.deepEqual(await harness().host.findDebris(), []);
    });
  });
}

function describeRootConformance(harness: () => Harness): void {
  describe("root and mounts", () => {
    test("an ephemeral root takes writes, and the root below it does not change", async () => {
      const before = await lstat(join(harness().host.lowerPath, "etc/passwd"));
      await harness().with({}, async (sandbox) => {
        await readScript(
          sandbox,
          "echo x >>/etc/passwd; rm /etc/fstab; mkdir /new; touch /new/file; chown 33:33 /new/file",
        );
        assert.equal(
          await readScript(sandbox, "stat -c %U:%G /etc/passwd /new /new/file"),
          "root:root\nroot:root\nwww-data:www-data",
        );
      });
      const afterwards = await lstat(join(harness().host.lowerPath, "etc/passwd"));
      assert.deepEqual([afterwards.mtimeMs, afterwards.size], [before.mtimeMs, before.size]);
      await lstat(join(harness().host.lowerPath, "etc/fstab"));
    });

    test("a persistent root keeps what is written, with ordinary owners on disk", async () => {
      const root = await harness().host.newRoot("persistent");
      await harness().with({ root }, (sandbox) =>
        readScript(sandbox, "echo kept >~/file; touch /srv/a; chown www-data /srv/a"),
      );
      assert.ok(root.kind === "persistent");
      const file = await lstat(join(root.path, "home/app/file"));
      assert.deepEqual([file.uid, (await lstat(join(root.path, "srv/a"))).uid], [0, 33]);
      await harness().with({ root }, async (sandbox) => assert.equal(await readScript(sandbox, "cat ~/file"), "kept"));
    });

    test("data mounts are made where they are wanted, nested ones and read-only ones too", async () => {
      const [outer, inner, readOnly] = await Promise.all([1, 2, 3].map(() => harness().host.newDirectory()));
      assert.ok(outer !== undefined && inner !== undefined && readOnly !== undefined);
      await writeFile(join(readOnly, "given"), "content");
      const mounts: readonly MountSpec[] = [
        { sourcePath: outer, targetPath: "/data/outer", isReadOnly: false },
        { sourcePath: inner, targetPath: "/data/outer/deep/inner", isReadOnly: false },
        { sourcePath: readOnly, targetPath: "/read only", isReadOnly: true },
      ];
      await harness().with({ mounts }, async (sandbox) => {
        await readScript(
          sandbox,
          "echo 1 >/data/outer/one; echo 2 >/data/outer/deep/inner/two; chown 1000 /data/outer/one",
        );
        assert.equal(await readScript(sandbox, "cat '/read only/given'"), "content");
        assert.match((await runScript(sandbox, "touch '/read only/new'")).stderr, /Read-only file system/);
        const options = await readScript(sandbox, "grep /data/outer /proc/self/mounts");
        for (const line of options.split("\n")) assert.match(line, /nosuid,nodev/);
      });
      assert.equal(await readFile(join(inner, "two"), "utf8"), "2\n");
      const { uid } = await lstat(join(outer, "one"));
      assert.equal(uid, 1000);
    });

    test("a data mount may lie over another one, or on memory of the sandbox's own, and hides what is there", async () => {
      const root = await harness().host.newRoot("persistent");
      assert.ok(root.kind === "persistent");
      await symlink("/data", join(root.path, "shortcut"));
      const findShown = async (targets: readonly string[], paths: string): Promise<string> => {
        const mounts = await Promise.all(
          targets.map(async (targetPath, index) => {
            const sourcePath = await harness().host.newDirectory();
            await writeFile(join(sourcePath, String(index)), "");
            return { sourcePath, targetPath, isReadOnly: false };
          }),
        );
        let shown = "";
        await harness().with({ root, mounts }, async (sandbox) => {
          shown = (await readScript(sandbox, `cd / && echo ${paths}`)).replaceAll("\n", " ");
        });
        return shown;
      };
      assert.equal(await findShown(["/data", "/shortcut"], "data/*"), "data/1");
      assert.equal(await findShown(["/data/below", "/data"], "data/*"), "data/1");
      assert.equal(
        await findShown(["/run/lock", "/run/lock/below"], "run/lock/* run/lock/below/*"),
        "run/lock/0 run/lock/below run/lock/below/1",
      );
      assert.equal(await findShown(["/run", "/run/lock"], "run/* run/lock/*"), "run/0 run/lock run/lock/1");
    });

    test("a link in the root cannot lead a mount out of the root", async () => {
      const root = await harness().host.newRoot("persistent");
      assert.ok(root.kind === "persistent");
      const outside = await harness().host.newDirectory();
      const source = await harness().host.newDirectory();
      await writeFile(join(source, "mine"), "");
      await symlink(outside, join(root.path, "trap"));
      const mounts = [{ sourcePath: source, targetPath: "/trap/inside", isReadOnly: false }];
      // Whether the start is refused or the link is followed below the root is up to the implementation.
      await harness()
        .with({ root, mounts }, async () => undefined)
        .catch((error: unknown) => {
          assert.ok(error instanceof CaissonError, String(error));
          assert.match(error.code, /^(?:SANDBOX_START_FAILED|INVALID_CONFIG)$/);
        });
      assert.deepEqual(await readdir(outside), []);
      await symlink("/srv", join(root.path, "shortcut"));
      const inside = [{ sourcePath: source, targetPath: "/shortcut/inside", isReadOnly: false }];
      await harness().with({ root, mounts: inside }, async (sandbox) => {
        assert.equal(await readScript(sandbox, "ls /srv/inside"), "mine");
      });
    });

    test("a device node that a root brings cannot be opened, in a lasting root and below an ephemeral one", async () => {
      const persistent = await harness().host.newRoot("persistent");
      assert.ok(persistent.kind === "persistent");
      await runTool("mknod", ["-m", "666", join(persistent.path, "brought"), "c", "1", "3"]);
      const scratchPath = await harness().host.newDirectory();
      for (const root of [persistent, { kind: "ephemeral", lowerPath: persistent.path, scratchPath } as const]) {
        await harness().with({ root }, async (sandbox) => {
          assert.match((await runScript(sandbox, "cat /brought")).stderr, /Permission denied/);
          assert.equal(await readScript(sandbox, "cat /dev/null && echo works"), "works");
        });
      }
    });

    test("a root that has lost its C library still boots", async () => {
      const root = await harness().host.newRoot("persistent");
      assert.ok(root.kind === "persistent");
      await rm(join(root.path, "usr/lib/x86_64-linux-gnu/libc.so.6"));
      // The start resolves when the agent accepts connections, so that it has succeeded here is the whole test.
      await harness().with({ root }, async ({ trace }) => assert.ok(trace.length > 0));
    });

    test("the agent and its runtime cannot be changed from inside", async () => {
      await harness().with({}, async (sandbox) => {
        const { stderr } = await runScript(
          sandbox,
          "echo x >/.caisson/agent.js; rm /.caisson/bin/tini; echo x >>/usr/local/bin/deno; echo x >/proc/meminfo",
        );
        assert.equal(stderr.match(/Read-only file system|Permission denied/g)?.length, 4, stderr);
      });
    });
  });
}
