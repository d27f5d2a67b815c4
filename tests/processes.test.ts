import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, suite, test } from "node:test";
import { Sandbox, SandboxCommandError } from "@deno/sandbox";
import { endInTurn } from "./support/end-in-turn.ts";
import { eventually } from "./support/eventually.ts";
import { killSandbox } from "./support/kill-sandbox.ts";
import { anonymousBytes, Peak, serverPid } from "./support/memory.ts";
import { RawSandbox } from "./support/raw-sandbox.ts";
import { TestServer } from "./support/server.ts";

const MIB = 2 ** 20;

/** Processes of a real sandbox, through the server (protocol.md 4.4, 9.B 6, 7, 9, 24). */
suite("processes", () => {
  let server: TestServer;
  let sandbox: Sandbox;

  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    sandbox = await Sandbox.create();
  });
  after(() =>
    endInTurn(
      () => sandbox && killSandbox(server, sandbox.id),
      () => server?.[Symbol.asyncDispose](),
    ),
  );

  const shell = (script: string) => sandbox.spawn("bash", { args: ["-c", script], stdout: "piped", stderr: "piped" });
  const text = async (script: string): Promise<string> =>
    ((await (await shell(script)).output()).stdoutText ?? "").trim();
  /** Pids of this very command, and not of a shell that is about to start it. */
  const pidsOf = (command: string): Promise<string> => text(`pgrep -fx '${command}' || true`);

  suite("how a process ends", () => {
    const ENDS: readonly (readonly [script: string, code: number, signal: string | null])[] = [
      ["true", 0, null],
      ["exit 1", 1, null],
      ["exit 42", 42, null],
      ["exit 255", 255, null],
      ["kill -TERM $$", 143, "SIGTERM"],
      ["kill -KILL $$", 137, "SIGKILL"],
      ["kill -INT $$; sleep 5", 130, "SIGINT"],
      ["kill -HUP $$", 129, "SIGHUP"],
      ["kill -ABRT $$", 134, "SIGABRT"],
      ["kill -USR1 $$", 138, "SIGUSR1"],
      ["exec python3 -c 'import ctypes; ctypes.string_at(0)'", 139, "SIGSEGV"],
    ];
    for (const [script, code, signal] of ENDS) {
      test(`"${script}" gives code ${code}${signal === null ? "" : ` and ${signal}`}`, async () => {
        const status = await (await shell(script)).status;
        assert.deepEqual({ ...status }, { success: code === 0, code, signal, oom: false });
      });
    }

    test("a program that is not there, not executable, or a directory that is not there is an error, not an exit", async () => {
      await assert.rejects(sandbox.spawn("no-such-program"), { code: "ENOENT" });
      await sandbox.fs.writeTextFile("/tmp/plain", "x");
      await assert.rejects(sandbox.spawn("/tmp/plain"), { code: "EACCES" });
      await assert.rejects(sandbox.spawn("true", { cwd: "/no/such/directory" }), { code: "ENOENT" });
    });
  });

  suite("signals", () => {
    for (const signal of ["SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGHUP"] as const) {
      test(`${signal} reaches the whole group, so that the output ends`, async () => {
        const mark = `7${signal.length}.${Date.now() % 100000}`;
        // Interactive job control is off, so that children of the shell stay in its group; SIGINT would be ignored in background ones.
        const child = await shell(`exec python3 -c '
import subprocess, time
child = subprocess.Popen(["sleep", "${mark}"])
print("ready", flush=True)
child.wait(); time.sleep(60)'`);
        await eventually("the child", async () => ((await pidsOf(`sleep ${mark}`)) === "" ? null : true));
        await child.kill(signal);
        const { status } = await child.output();
        assert.equal(status.success, false);
        assert.equal(await pidsOf(`sleep ${mark}`), "");
      });
    }

    test("SIGUSR1 reaches the process alone", async () => {
      const child = await shell(`trap 'echo got it; exit 0' USR1; sleep 87.125 & echo ready; wait`);
      await eventually("the child", async () => ((await pidsOf("sleep 87.125")) === "" ? null : true));
      await child.kill("SIGUSR1");
      assert.equal((await child.status).code, 0);
      assert.match(await pidsOf("sleep 87.125"), /^\d+$/, "the child of the process runs on");
      await text("pkill -f '[s]leep 87.125'");
    });

    test("a signal to a process that has ended is no error to the client", async () => {
      const child = await shell("true");
      await child.status;
      await child.kill("SIGTERM");
    });

    test("an abort of a shell command gives 143 and SIGTERM", async () => {
      const controller = new AbortController();
      const result = sandbox.sh`sleep 101`.signal(controller.signal).then(
        () => null,
        (error: unknown) => error,
      );
      await eventually("the command", async () => ((await pidsOf("sleep 101")) === "" ? null : true));
      controller.abort();
      const error = await result;
      assert.ok(error instanceof SandboxCommandError);
      assert.equal(error.code, 143);
    });
  });

  suite("output", () => {
    test("is kept until it is asked for, also of a process that ended long before", async () => {
      await using raw = await RawSandbox.connect(server, sandbox.id);
      const { pid, stdoutStreamId } = await raw.spawn("sh", ["-c", "echo kept"]);
      await eventually("the end of the process", async () =>
        (await text(`test -d /proc/${pid} && echo there || true`)) === "" ? true : null,
      );
      assert.equal(raw.receivedBytes(stdoutStreamId), 0);
      assert.deepEqual(await raw.call("processWait", { pid }), { success: true, code: 0, signal: null, oom: null });
      assert.equal(String(await raw.output(stdoutStreamId)), "kept\n");
    });

    test("of 5 MB comes whole and in order, and separately for both streams", async () => {
      const child = await shell("seq 1 750000; seq 1 1000 >&2");
      await child.status;
      const { stdout, stderr } = await child.output();
      const expected = Array.from({ length: 750_000 }, (_, index) => `${index + 1}\n`).join("");
      assert.ok(expected.length > 5e6);
      assert.equal(digest(stdout), digest(Buffer.from(expected)));
      assert.equal(digest(stderr), digest(Buffer.from(expected.slice(0, expected.indexOf("1001\n")))));
    });

    test("of 1 GB passes without growing the server or the agent", async () => {
      const ownPid = await serverPid(server);
      const agentMemory = async () =>
        Number(await sandbox.fs.readTextFile("/proc/2/status").then((status) => /RssAnon:\s*(\d+)/.exec(status)?.[1])) *
        1024;
      const before = [await anonymousBytes(ownPid), await agentMemory()] as const;
      await using serverPeak = new Peak(() => anonymousBytes(ownPid));
      await using agentPeak = new Peak(agentMemory);
      const child = await sandbox.spawn("head", { args: ["-c", String(2 ** 30), "/dev/zero"], stdout: "piped" });
      let received = 0;
      for await (const chunk of child.stdout ?? []) received += chunk.length;
      assert.equal(received, 2 ** 30);
      const growth = [serverPeak.value - before[0], agentPeak.value - before[1]].map((bytes) =>
        Math.round(bytes / MIB),
      );
      assert.ok(
        growth.every((mebibytes) => mebibytes < 128),
        `server and agent grew by ${growth} MiB`,
      );
    });

    test("that nobody reads stops the process that writes, and grows neither the server nor the agent", async () => {
      const ownPid = await serverPid(server);
      const raw = await RawSandbox.connect(server, sandbox.id);
      const { pid } = await raw.spawn("sh", ["-c", "yes | tee /dev/stderr 2>/tmp/written"]);
      await raw.call("spawn", { command: "true", stdout: "null", stderr: "null" });
      void raw.call("processWait", { pid }).catch(() => {});
      raw.socket.pause();
      const before = await anonymousBytes(ownPid);
      const written = async () => (await sandbox.fs.stat("/tmp/written")).size;
      // It stands still once every buffer on the way is full.
      let last = -1;
      await eventually(
        "the writer to stand still",
        async () => {
          const now = await written();
          const isStill = now > MIB && now === last;
          last = now;
          await new Promise((resolve) => setTimeout(resolve, 300));
          return isStill ? true : null;
        },
        30_000,
      );
      assert.ok(last < 200 * MIB, `${last / MIB} MiB were written for a client that reads nothing`);
      const growth = (await anonymousBytes(ownPid)) - before;
      assert.ok(growth < 64 * MIB, `the server grew by ${growth / MIB} MiB`);
      raw.socket.resume();
      raw.crash();
      await sandbox.sh`pkill yes || true; rm /tmp/written`;
    });

    test("whose client left is read on, so that the process ends as it would have", async () => {
      const raw = await RawSandbox.connect(server, sandbox.id);
      const { pid } = await raw.spawn("sh", ["-c", "sleep 0.3; head -c 50000000 /dev/zero; exit 7"]);
      raw.crash();
      await using other = await RawSandbox.connect(server, sandbox.id);
      assert.deepEqual(await other.call("processWait", { pid }), { success: false, code: 7, signal: null, oom: null });
    });
  });

  test("a process is waited for and ended from another connection", async () => {
    await using second = await Sandbox.connect({ id: sandbox.id });
    await using raw = await RawSandbox.connect(server, sandbox.id);
    const child = await second.spawn("sleep", { args: ["99.5"] });
    const waiting = raw.call<{ code: number; signal: string }>("processWait", { pid: child.pid });
    await raw.call("processKill", { pid: child.pid, signal: "SIGKILL" });
    const { code, signal } = await waiting;
    assert.deepEqual([code, signal, (await child.status).code], [137, "SIGKILL", 137]);
    // Answered again, long after the end.
    assert.equal((await raw.call<{ code: number }>("processWait", { pid: child.pid })).code, 137);
  });

  test("2,000 short processes, 20 at a time, all end, with pids of their own, and leave nothing", async () => {
    const pids = new Set<number>();
    const worker = async (): Promise<void> => {
      for (let count = 0; count < 100; count += 1) {
        const child = await sandbox.spawn("sh", { args: ["-c", `echo ${count}; exit ${count % 7}`], stdout: "piped" });
        const { status, stdoutText } = await child.output();
        assert.deepEqual([status.code, stdoutText], [count % 7, `${count}\n`]);
        pids.add(child.pid);
      }
    };
    await Promise.all(Array.from({ length: 20 }, worker));
    assert.equal(pids.size, 2000);
    assert.equal(await text("ps -eo stat= | grep -c Z || true"), "0", "zombies are left");
    const descriptors = Number(await text("ls /proc/2/fd | wc -l"));
    assert.ok(descriptors < 64, `the agent holds ${descriptors} descriptors`);
  });

  test("orphans are reaped by the first process", async () => {
    // Each child forks a grandchild and ends, so that the grandchild's parent becomes the first process.
    assert.equal(await text("for i in $(seq 200); do (sleep 0.01 &) ; done; echo started"), "started");
    await eventually("the orphans' end", async () =>
      (await text("ps -eo comm=,stat= | grep -E '^sleep|Z' | wc -l")) === "0" ? true : null,
    );
  });

  suite("out of memory", () => {
    const eat = `exec python3 -c 'x = bytearray(4 << 30)'`;

    test("the process that took it is ended and says so; the sandbox lives on", async () => {
      await using small = await Sandbox.create({ memory: "768MiB" });
      const child = await small.spawn("bash", { args: ["-c", eat], stdout: "null", stderr: "null" });
      const status = await child.status;
      assert.deepEqual([status.code, status.signal, status.oom], [137, "SIGKILL", true]);
      assert.equal((await small.sh`echo alive`.text()).trim(), "alive");
      await using raw = await RawSandbox.connect(server, small.id);
      const { pid } = await raw.spawn("bash", ["-c", `${eat.slice(5)}; exit $?`]);
      const viaShell = await raw.call<{ code: number; oom: string | null }>("processWait", { pid });
      assert.deepEqual([viaShell.code, viaShell.oom], [137, "high-confidence"], "also when a shell waited for it");
    });

    test("a kill by hand is not taken for it", async () => {
      const child = await shell("kill -KILL $$");
      assert.equal((await child.status).oom, false);
    });
  });
});

function digest(bytes: Uint8Array | null): string {
  return createHash("sha256")
    .update(bytes ?? "")
    .digest("hex");
}
