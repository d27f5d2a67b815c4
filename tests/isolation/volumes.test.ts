import assert from "node:assert/strict";
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { runTool } from "@caisson/linux";
import { Client, Sandbox } from "@deno/sandbox";
import { killSandbox } from "../support/kill-sandbox.ts";
import { serverPid } from "../support/memory.ts";
import { TestServer } from "../support/server.ts";
import { carryOut } from "./attempts.ts";

/** What one sandbox plants on a volume or in a root for the next one, or for the host that mounts it. */
suite("planted volumes", () => {
  let server: TestServer;
  let client: Client;

  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    client = new Client();
  });
  after(() => server?.[Symbol.asyncDispose]());

  const newVolume = (slug: string, from?: string) =>
    client.volumes.create({
      slug,
      region: "ord",
      capacity: from === undefined ? "300MB" : "1GB",
      ...(from === undefined ? {} : { from }),
    });
  const run = async (sandbox: Sandbox, script: string): Promise<string> => {
    const child = await sandbox.spawn("/bin/bash", { args: ["-c", script], stdout: "piped", stderr: "piped" });
    const { stdoutText, stderrText, status } = await child.output();
    assert.ok(status.success || stderrText === "", `${script}: ${stderrText}`);
    return `${stdoutText}`.trim();
  };

  test("a setuid program on a volume gives its owner's rights to nobody", async () => {
    await newVolume("setuid");
    {
      const writer = await Sandbox.create({ volumes: { "/v": "setuid" } });
      await run(writer, "cp /usr/bin/id /v/id && chown root:root /v/id && chmod 6755 /v/id");
      await run(writer, "cp /usr/bin/python3 /v/python && setcap cap_chown+ep /v/python 2>/dev/null || true");
      assert.equal(
        await run(writer, "setpriv --reuid 1000 --clear-groups /v/id -u"),
        "1000",
        "in the sandbox that wrote it",
      );
      await killSandbox(server, writer.id);
    }
    const reader = await Sandbox.create({ volumes: { "/v": "setuid" } });
    assert.equal(await run(reader, "stat -c %a /v/id"), "6755");
    assert.equal(await run(reader, "setpriv --reuid 1000 --clear-groups /v/id -u"), "1000");
    assert.equal(
      await run(
        reader,
        "setpriv --reuid 1000 --clear-groups /v/python -c 'print(open(\"/proc/self/status\").read())' | grep CapEff",
      ),
      "CapEff:\t0000000000000000",
    );
    await killSandbox(server, reader.id);
  });

  test("a device node on a volume cannot be opened, however it got there", async () => {
    const volume = await newVolume("devices");
    const sandbox = await Sandbox.create({ volumes: { "/v": "devices" } });
    const seenByServer = join(
      `/proc/${await serverPid(server)}/root`,
      server.dataDirectory,
      "regions/ord/mounts",
      volume.id,
    );
    await runTool("mknod", ["-m", "666", join(seenByServer, "disk"), "b", "7", "0"]);
    await runTool("mknod", ["-m", "666", join(seenByServer, "memory"), "c", "1", "1"]);
    await runTool("mknod", ["-m", "666", join(seenByServer, "null"), "c", "1", "3"]);
    const outcomes = await carryOut(sandbox, [
      `os.open("/v/disk", os.O_RDONLY)`,
      `os.open("/v/memory", os.O_RDONLY)`,
      `os.open("/v/null", os.O_RDONLY)`,
      `os.rename("/v/disk", "/dev/shm/disk")`,
    ]);
    assert.deepEqual(outcomes, ["EACCES", "EACCES", "EACCES", "EXDEV"]);
    await assert.rejects(sandbox.fs.readFile("/v/null"), /os error 13\b/);
    await killSandbox(server, sandbox.id);
  });

  test("a volume that a sandbox holds cannot be mounted by another one", async () => {
    await newVolume("exclusive");
    const holder = await Sandbox.create({ volumes: { "/v": "exclusive" }, timeout: "5m" });
    await assert.rejects(Sandbox.create({ volumes: { "/w": "exclusive" } }), { code: "VOLUME_IN_USE", status: 409 });
    await killSandbox(server, holder.id);
  });

  test("a volume below a link that another volume has planted replaces neither the root nor the first process", async () => {
    await newVolume("planted");
    await newVolume("replacement");
    const planter = await Sandbox.create({ volumes: { "/p": "planted", "/r": "replacement" } });
    await run(
      planter,
      "ln -s / /p/up; ln -s ../../.caisson /p/agent; ln -s ../etc /p/etc; mkdir -p /r/.caisson/bin; cp /bin/true /r/.caisson/bin/tini; echo mine >/r/file",
    );
    await killSandbox(server, planter.id);
    for (const [path, refusal] of [
      ["/p/up", /at "\/p\/up": links on the way lead to the root directory/],
      ["/p/up/.caisson", /lead to \/\.caisson/],
      ["/p/agent/bin", /lead to \/\.caisson/],
    ] as const) {
      const start = Sandbox.create({ volumes: { "/p": "planted", [path]: "replacement" } });
      await assert.rejects(start, { code: "INVALID_CONFIG", status: 400, message: refusal });
    }
    // What a link shows of the sandbox's own root is the sandbox's to change, and both volumes are free after the refusals.
    const sandbox = await Sandbox.create({ volumes: { "/p": "planted", "/p/etc/mine": "replacement" } });
    assert.equal(await run(sandbox, "cat /etc/mine/file; readlink /proc/1/exe"), "mine\n/.caisson/bin/tini");
    await killSandbox(server, sandbox.id);
  });

  for (const path of ["/.caisson", "/.caisson/run", "/usr/local/bin/deno", "/etc/hosts", "/dev/shm"]) {
    test(`a volume cannot be mounted at ${path}`, async () => {
      await assert.rejects(Sandbox.create({ volumes: { [path]: "planted" } }), { code: "INVALID_CONFIG", status: 400 });
    });
  }

  suite("a root with planted links", () => {
    before(async () => {
      await newVolume("root", "builtin:debian-13");
      await newVolume("payload");
      const sandbox = await Sandbox.create({ volumes: { "/v": "payload" } });
      await sandbox.fs.writeTextFile("/v/payload", "of the volume");
      await killSandbox(server, sandbox.id);
    });

    /** Changes the root as a data volume, where nothing of it is mounted over. */
    const change = async (script: string): Promise<void> => {
      const sandbox = await Sandbox.create({ volumes: { "/v": "root" } });
      await run(sandbox, `set -e; cd /v; ${script}`);
      await killSandbox(server, sandbox.id);
    };

    const PLANTED: readonly {
      readonly name: string;
      readonly plant: string;
      readonly undo: string;
      /** Where the payload volume is mounted. */
      readonly path?: string;
      /** What the start says, or what the sandbox shows by `look`. */
      readonly refusal?: RegExp;
      readonly look?: string;
      readonly shows?: string;
    }[] = [
      ...Object.entries({
        "the first process's root": "/proc/1/root/etc",
        "the mounting process's root": "/proc/self/root/etc",
        "a descriptor of the mounting process": "/proc/self/fd/7",
      }).map(([name, target]) => ({
        name: `a mount point behind a link to ${name} is refused`,
        plant: `ln -s ${target} data`,
        undo: "rm data",
        path: "/data/x",
        refusal:
          /Cannot mount a volume at "\/data\/x": links on the way lead to \/proc, which belongs to the sandbox itself/,
      })),
      ...Object.entries({
        "the root directory": "/",
        "the directory above": "..",
        "itself from far above": "../../../..",
      }).map(([name, target]) => ({
        name: `a mount point that is a link to ${name} is refused`,
        plant: `ln -s ${target} data`,
        undo: "rm data",
        path: "/data",
        refusal: /Cannot mount a volume at "\/data": links on the way lead to the root directory/,
      })),
      {
        name: "a mount point that is a link to the agent's files is refused",
        plant: "ln -s usr/../.caisson data",
        undo: "rm data",
        path: "/data",
        refusal: /links on the way lead to \/\.caisson, which belongs to the sandbox itself/,
      },
      {
        name: "a mount point behind links that lead to each other is refused",
        plant: "ln -s other data; ln -s data other",
        undo: "rm data other",
        path: "/data/x",
        refusal: /it leads through too many links/,
      },
      {
        name: "a mount point behind an ordinary link of the system is where that leads",
        plant: "test -L var/run",
        undo: "true",
        path: "/var/run/x",
        look: "cat /run/x/payload",
        shows: "of the volume",
      },
      {
        name: "a mount point behind a link to /etc is in the sandbox's own /etc",
        plant: "ln -s /etc data",
        undo: "rm data; rmdir etc/x",
        path: "/data/x",
        look: "cat /etc/x/payload",
        shows: "of the volume",
      },
      {
        name: "a mount point behind a link that climbs is in the sandbox's own root",
        plant: "ln -s ../../../../../../../../../../tmp data",
        undo: "rm data; rmdir tmp/x",
        path: "/data/x",
        look: "cat /tmp/x/payload",
        shows: "of the volume",
      },
      {
        name: "a mount point behind a link to the kernel's settings is refused",
        plant: "ln -s /proc/sys data",
        undo: "rm data",
        path: "/data/x",
        refusal: /links on the way lead to \/proc/,
      },
      {
        name: "a mount point behind a link to the agent's files is refused",
        plant: "ln -s /.caisson data",
        undo: "rm data",
        path: "/data/x",
        refusal: /links on the way lead to \/\.caisson/,
      },
      {
        name: "a link in the place of the agent's files to the first process's root is refused",
        plant: "rm -rf .caisson; ln -s /proc/1/root .caisson",
        undo: "rm .caisson; mkdir .caisson",
        refusal: /\/\.caisson of its root is a link\. Mount the volume in another sandbox/,
      },
      {
        name: "a link in the place of the agent's files that leads to itself is refused",
        plant: "rm -rf .caisson; ln -s .caisson .caisson",
        undo: "rm .caisson; mkdir .caisson",
        refusal: /\/\.caisson of its root is a link\. Mount the volume in another sandbox/,
      },
      {
        name: "a link in the place of /proc is refused",
        plant: "rmdir proc; mkdir -p false/self; ln -s /false proc",
        undo: "rm -r proc false; mkdir proc",
        refusal: /\/proc of its root is a link\. Mount the volume in another sandbox/,
      },
      {
        name: "a link in the place of /sys is refused",
        plant: "rmdir sys; ln -s /proc sys",
        undo: "rm sys; mkdir sys",
        refusal: /\/sys of its root is a link\. Mount the volume in another sandbox/,
      },
      {
        name: "a link in the place of /run is refused",
        plant: "mv run run.kept; ln -s / run",
        undo: "rm run; mv run.kept run",
        refusal: /\/run of its root is a link/,
      },
      {
        name: "a link in the place of /dev is refused",
        plant: "mv dev dev.kept; ln -s /proc/1/root/dev dev",
        undo: "rm dev; mv dev.kept dev",
        refusal: /\/dev of its root is a link\. Mount the volume in another sandbox/,
      },
      {
        name: "a link in the place of /etc/hosts to the core dump handler changes nothing of the handler",
        plant: "rm etc/hosts; ln -s ../../../../../proc/sys/kernel/core_pattern etc/hosts",
        undo: "rm etc/hosts; touch etc/hosts",
        look: "echo '|/tmp/x' >/etc/hosts; cat /proc/sys/kernel/core_pattern",
        shows: "|/tmp/x",
      },
      {
        name: "a link in the place of the deno on the PATH that leads out is refused",
        plant: "rm usr/local/bin/deno; ln -s /proc/1/root/bin/bash usr/local/bin/deno",
        undo: "rm usr/local/bin/deno; touch usr/local/bin/deno",
        refusal: /openat2 `proc\/1\/root`: Invalid cross-device link/,
      },
      {
        name: "a home directory that is a link out is the sandbox's own root",
        plant: "mv home/app home/kept; ln -s /proc/1/root/../../.. home/app",
        undo: "rm home/app; mv home/kept home/app",
        look: "stat -c %d:%i / /home/app/ | uniq | wc -l",
        shows: "1",
      },
    ];
    for (const { name, plant, undo, path, refusal, look, shows } of PLANTED) {
      test(name, async () => {
        await change(plant);
        const before = await hostState(server);
        const start = Sandbox.create({
          root: "root",
          ...(path === undefined ? {} : { volumes: { [path]: "payload" } }),
        });
        if (refusal !== undefined) {
          const ours = /\blead/.test(refusal.source);
          const error = ours ? { code: "INVALID_CONFIG", status: 400 } : { code: "SANDBOX_START_FAILED", status: 502 };
          await assert.rejects(start, { ...error, message: refusal });
        } else {
          const sandbox = await start;
          assert.equal(await run(sandbox, `${look}`), shows);
          await killSandbox(server, sandbox.id);
        }
        assert.deepEqual(await hostState(server), before);
        // Whatever happened, both volumes are free at once, and the root starts again when the link is gone.
        await change(undo);
        const sandbox = await Sandbox.create({ root: "root", volumes: { "/data": "payload" } });
        assert.equal(await run(sandbox, "cat /data/payload; rmdir /data 2>/dev/null; true"), "of the volume");
        await killSandbox(server, sandbox.id);
        await change("rmdir data");
      });
    }
  });
});

/** What a mount that went astray would change: what is mounted where the server lives, and the host's own directories. */
async function hostState(server: TestServer): Promise<object> {
  const pid = await serverPid(server);
  const mounts = await readFile(`/proc/${pid}/mountinfo`, "utf8");
  // Mounts of tests that run beside this one spread to here; theirs and the server's own all lie in directories of this name.
  const ofTests = join(tmpdir(), "caisson-");
  const outside = mounts.split("\n").filter((line) => !line.includes(ofTests));
  return {
    targets: outside.map((line) => line.split(" ")[4]),
    etc: await readdir("/etc"),
    root: await readdir(`/proc/${pid}/root`),
    namespace: await readlink(`/proc/${pid}/ns/mnt`),
    hosts: await Promise.all([stat("/etc/hosts"), readFile("/etc/hosts", "utf8")]).then(([{ ino }, text]) => ({
      ino,
      text,
    })),
    resolvConf: await readFile("/etc/resolv.conf", "utf8"),
    coreHandler: await readFile("/proc/sys/kernel/core_pattern", "utf8"),
  };
}
