import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Client, Sandbox } from "@deno/sandbox";
import { eventually, within } from "./support/eventually.ts";
import { killSandbox } from "./support/kill-sandbox.ts";
import { RawSandbox } from "./support/raw-sandbox.ts";
import { TestServer } from "./support/server.ts";
import { isOnPostgres } from "./support/test-database.ts";

/** The form that `GET /api/v3/sandbox/:id` adds to the protocol's. */
interface Detailed {
  readonly id: string;
  readonly status: string;
  readonly stopReason: string | null;
  readonly stoppedAt: string | null;
  readonly stopAt: string | null;
}

const MAX_SANDBOXES = 24;
/** Timers are no more exact than this. */
const TIMER_MS = 5;

/** How long a sandbox lives for a test that waits for its end, and does something with it before: on a slow machine not as much longer as a deadline is. */
function lifetimeMs(durationMs: number): number {
  return Math.max(durationMs, testTimeoutMs(durationMs / 5));
}

function assertBetween(actual: number, least: number, most: number): void {
  assert.ok(least <= actual && actual <= most, `${actual} is not from ${least} to ${most}`);
}

/** How many agents of the server's sandboxes are stopped by a signal. */
async function countStoppedAgents(server: TestServer): Promise<number> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const isStopped = await Promise.all(
    pids.map(async (pid) => {
      const read = (name: string) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
      if (!(await read("cmdline")).includes("/.caisson/bin/deno\0run")) return false;
      return (await read("cgroup")).includes(server.instance) && /^State:\s+T/m.test(await read("status"));
    }),
  );
  return isStopped.filter(Boolean).length;
}

/** How long sandboxes live, and what ends them (protocol.md 5.3, 5.4). */
suite("lifetime", () => {
  let server: TestServer;
  let client: Client;

  before(async () => {
    server = await TestServer.start({ settings: `[sandboxes]\nmax_per_organization = ${MAX_SANDBOXES}\n` });
    Object.assign(process.env, server.clientEnv());
    client = new Client();
  });
  after(() => server?.[Symbol.asyncDispose]());

  const get = async (id: string): Promise<Detailed> =>
    (await (await server.request(`/api/v3/sandbox/${id}`)).json()) as Detailed;
  const stopped = (id: string, deadlineMs?: number): Promise<Detailed> =>
    eventually(
      `the end of ${id}`,
      async () => {
        const sandbox = await get(id);
        return sandbox.status === "stopped" ? sandbox : null;
      },
      deadlineMs,
    );
  const extend = async (id: string, stopAtMs: number): Promise<number> => {
    const response = await server.request(`/api/v3/sandbox/${id}`, { method: "PATCH", json: { stop_at_ms: stopAtMs } });
    assert.equal(response.status, 200);
    return ((await response.json()) as { stop_at_ms: number }).stop_at_ms;
  };
  /** A sandbox whose agent does nothing any more. */
  const withStoppedAgent = async (config: object = {}): Promise<RawSandbox> => {
    const before = await countStoppedAgents(server);
    const sandbox = await RawSandbox.create(server, { memory_mb: 768, ...config });
    void sandbox.spawn("bash", ["-c", "kill -STOP 2"]);
    await eventually("a stopped agent", async () => ((await countStoppedAgents(server)) > before ? true : null));
    return sandbox;
  };
  const createVolume = (slug: string) => client.volumes.create({ slug, region: "ord", capacity: "300MB" });
  /** Starts the server again; its port is another one then. */
  const restart = async (): Promise<void> => {
    await server.start();
    Object.assign(process.env, server.clientEnv());
    client = new Client();
  };

  // Whether a connection is still there has nothing to do with the database.
  if (!isOnPostgres())
    suite("a session", () => {
      let answering: RawSandbox;
      let vanished: RawSandbox;
      before(async () => {
        answering = await RawSandbox.create(server, { memory_mb: 768 });
        vanished = await RawSandbox.create(server, { memory_mb: 768 }, { autoPong: false });
      });

      test("ends when its creator closes the connection", async () => {
        const sandbox = await Sandbox.create();
        const leftAtMs = Date.now();
        await sandbox.close();
        const { stopReason, stoppedAt } = await stopped(sandbox.id);
        assert.equal(stopReason, "primary-left");
        assertBetween(Date.parse(stoppedAt ?? ""), leftAtMs, Date.now());
        await assert.rejects(Sandbox.connect({ id: sandbox.id }), { status: 404, code: "SANDBOX_NOT_FOUND" });
      });

      test("ends when its creator crashes", async () => {
        const sandbox = await RawSandbox.create(server, { memory_mb: 768, timeout: "session" });
        sandbox.crash();
        assert.equal((await stopped(sandbox.id)).stopReason, "primary-left");
      });

      test("says that it ran out of memory when that ended its agent, whoever notices the end first", async () => {
        // The agent is the last that the kernel ends, unless the user's root says otherwise.
        const exhaust = [
          'for pid in $(cat /proc/1/task/1/children); do echo 1000 > "/proc/$pid/oom_score_adj"; done',
          "echo 100 > /proc/self/oom_score_adj",
          // Several, because the kernel looks at size too.
          "for count in 1 2 3 4 5 6; do tail /dev/zero & done; wait",
        ].join("\n");
        for (const timeout of ["session", "5m"]) {
          const sandbox = await RawSandbox.create(server, { memory_mb: 768, timeout });
          void sandbox.run(exhaust).catch(() => undefined);
          const { stopReason } = await stopped(sandbox.id, 60_000);
          assert.deepEqual({ timeout, stopReason }, { timeout, stopReason: "out-of-memory" });
        }
        const survivor = await RawSandbox.create(server, { memory_mb: 768 });
        await survivor.run("tail /dev/zero; true");
        await survivor[Symbol.asyncDispose]();
        assert.equal((await stopped(survivor.id)).stopReason, "primary-left", "only a program of the user was ended");
      });

      test("ends when its creator leaves, crashes or resets although its agent was stopped, whatever was still unread", async () => {
        const closing = await withStoppedAgent();
        const crashing = await withStoppedAgent();
        const flooding = await withStoppedAgent();
        closing.socket.close();
        for (let count = 0; count < 16; count += 1) flooding.socket.send(Buffer.alloc(2 ** 20));
        await eventually("an agent that takes no more", () => (flooding.socket.bufferedAmount > 2 ** 20 ? true : null));
        assert.equal((await get(closing.id)).status, "running", "a close frame is the agent's to answer");
        flooding.reset();
        for (const client of [closing, crashing]) client.crash();
        for (const { id } of [closing, crashing, flooding])
          assert.equal((await stopped(id, 30_000)).stopReason, "primary-left");
      });

      test("goes on when other clients come, leave and crash, and takes them along at its end", async () => {
        const primary = await RawSandbox.create(server, { memory_mb: 768 });
        const leaving = await RawSandbox.connect(server, primary.id);
        assert.equal(leaving.id, primary.id);
        await leaving[Symbol.asyncDispose]();
        (await RawSandbox.connect(server, primary.id)).crash();
        const staying = await RawSandbox.connect(server, primary.id);
        assert.equal(await staying.run("echo here"), "here");
        await primary[Symbol.asyncDispose]();
        assert.ok([1000, 1001].includes(await within(30_000, "closing the secondary", staying.closed)));
        await stopped(primary.id);
      });

      test("shows every client the same files at once", async () => {
        await using first = await Sandbox.create();
        await using second = await Sandbox.connect({ id: first.id });
        await first.fs.writeTextFile("shared", "from the first");
        assert.equal(await second.fs.readTextFile("shared"), "from the first");
        await second.fs.writeTextFile("shared", "from the second");
        assert.equal(await first.fs.readTextFile("shared"), "from the second");
      });

      test("that was extended outlives its creator until then, and not longer", async () => {
        const sandbox = await RawSandbox.create(server, { memory_mb: 768 });
        const first = await extend(sandbox.id, Date.now() + lifetimeMs(15_000));
        assert.ok(first > Date.now());
        sandbox.crash();
        const second = await RawSandbox.connect(server, sandbox.id);
        assert.equal(await second.run("echo alive"), "alive");
        const until = await extend(sandbox.id, first + 2000);
        assert.equal(until, first + 2000, "it can be extended again when its creator has left");
        const { stopReason, stoppedAt } = await stopped(sandbox.id, 60_000);
        assert.equal(stopReason, "primary-left");
        assert.ok(Date.parse(stoppedAt ?? "") >= until - TIMER_MS);
      });

      test("that was extended does not end then while its creator stays", async () => {
        const sandbox = await RawSandbox.create(server, { memory_mb: 768 });
        const until = await extend(sandbox.id, Date.now() + 300);
        await eventually("the end of the extension", () => (Date.now() > until + 200 ? true : null));
        assert.equal(await sandbox.run("echo alive"), "alive");
        await sandbox[Symbol.asyncDispose]();
        await stopped(sandbox.id);
      });

      test("ends when its creator's machine vanishes: two pings without an answer", async () => {
        // The agent sends one each 15 s, which no variable of the sandbox changes, so the others of this suite run meanwhile.
        assert.equal((await stopped(vanished.id, 120_000)).stopReason, "primary-left");
        assert.equal((await get(answering.id)).status, "running", "a client that answers pings but says nothing stays");
        answering.crash();
      });
    });

  suite("a duration", () => {
    test("of the JavaScript client outlives its creator and ends at its time, with clients connected", async () => {
      const sandbox = await Sandbox.create({ timeout: `${lifetimeMs(20_000) / 1000}s` });
      await sandbox.close();
      const second = await RawSandbox.connect(server, sandbox.id);
      assert.equal(await second.run("echo alive"), "alive");
      const stopAtMs = Date.parse((await get(sandbox.id)).stopAt ?? "");
      assert.ok([1000, 1001].includes(await second.closed));
      const { stopReason, stoppedAt } = await stopped(sandbox.id);
      assert.equal(stopReason, "timeout");
      assertBetween(Date.parse(stoppedAt ?? ""), stopAtMs - TIMER_MS, Date.now());
    });

    test("of the Python client is honoured from now on, with its volumes and variables", async () => {
      await createVolume("python-map");
      const askedAtMs = Date.now();
      const sandbox = await RawSandbox.create(server, {
        memory_mb: 768,
        debug: false,
        region: "ord",
        env: { GREETING: "hello" },
        timeout: `${lifetimeMs(20_000) / 1000}s`,
        volumes: { "/data/deep": "python-map" },
      });
      assertBetween(
        Date.parse((await get(sandbox.id)).stopAt ?? ""),
        askedAtMs + lifetimeMs(20_000),
        Date.now() + lifetimeMs(20_000),
      );
      assert.equal(await sandbox.run("echo $GREETING > /data/deep/file; cat /data/deep/file"), "hello");
      sandbox.crash();
      assert.equal((await stopped(sandbox.id, 60_000)).stopReason, "timeout");
    });

    test("may be created with almost a mebibyte of variables, and one that no program could get is refused", async () => {
      const env = Object.fromEntries(Array.from({ length: 8 }, (_, index) => [`LARGE_${index}`, "x".repeat(120_000)]));
      const sandbox = await RawSandbox.create(server, { memory_mb: 768, stop_at_ms: Date.now() + 60_000, env });
      assert.equal(await sandbox.run("printf %s $LARGE_0$LARGE_7 | wc -c"), "240000");
      await killSandbox(server, sandbox.id);
      await assert.rejects(RawSandbox.create(server, { memory_mb: 768, env: { LARGE: "x".repeat(128 * 1024) } }), {
        status: 400,
        code: "INVALID_CONFIG",
      });
    });

    test("is lengthened by extending, up to 30 minutes from now, and never shortened", async () => {
      const sandbox = await Sandbox.create({ timeout: "60s" });
      const first = Date.parse((await get(sandbox.id)).stopAt ?? "");
      assert.equal(await extend(sandbox.id, Date.now() + 1000), first, "an earlier end changes nothing");
      const later = Date.now() + 120_000;
      assert.equal(await extend(sandbox.id, later), later);
      const askedAtMs = Date.now();
      const most = await extend(sandbox.id, askedAtMs + 86_400_000);
      assertBetween(most, askedAtMs + 30 * 60_000, Date.now() + 30 * 60_000);
      assert.ok((await sandbox.extendTimeout("10s")).getTime() > Date.now());
      await sandbox.kill();
    });

    test("beyond 30 minutes is cut to 30, and one in the past is refused", async () => {
      const askedAtMs = Date.now();
      const sandbox = await RawSandbox.create(server, { memory_mb: 768, stop_at_ms: askedAtMs + 86_400_000 });
      const stopAtMs = Date.parse((await get(sandbox.id)).stopAt ?? "");
      assertBetween(stopAtMs, askedAtMs + 30 * 60_000, Date.now() + 30 * 60_000);
      assert.equal(sandbox.stopAtMs, stopAtMs, "the answer to the create says so");
      await killSandbox(server, sandbox.id);
      await assert.rejects(RawSandbox.create(server, { memory_mb: 768, stop_at_ms: Date.now() - 1 }), {
        status: 400,
        code: "INVALID_CONFIG",
      });
    });
  });

  suite("a kill", () => {
    test("closes all sockets of the sandbox, in either client's way to ask for it", async () => {
      for (const path of ["/api/v3/sandbox", "/api/v3/sandboxes"]) {
        const primary = await RawSandbox.create(server, { memory_mb: 768, timeout: "5m" });
        const others = await Promise.all([1, 2].map(() => RawSandbox.connect(server, primary.id)));
        const busy = await primary.spawn("sh", ["-c", "while :; do echo noise; done"]);
        void primary.call("processWait", { pid: busy.pid }).catch(() => {});
        await killSandbox(server, primary.id, path);
        const codes = await within(
          30_000,
          "closing the sockets",
          Promise.all([primary, ...others].map((connection) => connection.closed)),
        );
        // Whoever is behind with reading may be cut off without a close frame.
        assert.ok(
          codes.every((code) => [1000, 1001, 1006].includes(code)),
          `${codes}`,
        );
        assert.ok(
          codes.slice(1).every((code) => code !== 1006),
          `${codes}`,
        );
        assert.equal((await get(primary.id)).stopReason, "killed");
        const again = await server.request(`${path}/${primary.id}`, { method: "DELETE" });
        assert.equal(again.status, 404);
      }
    });

    test("of the official client resolves", async () => {
      const sandbox = await Sandbox.create({ timeout: "5m" });
      await within(30_000, "kill", sandbox.kill());
      await assert.rejects(Sandbox.connect({ id: sandbox.id }), { status: 404 });
    });

    test("and a time that is over need no agent that does anything", async () => {
      await createVolume("stopped-agent");
      const killed = await withStoppedAgent({ timeout: "5m", volumes: { "/v": "stopped-agent" } });
      // The last one, so that its end is not taken for the other's agent going on.
      const timed = await withStoppedAgent({ timeout: `${lifetimeMs(10_000) / 1000}s` });
      await killSandbox(server, killed.id);
      assert.ok((await server.request("/api/v2/volumes/stopped-agent", { method: "DELETE" })).ok);
      assert.equal((await stopped(timed.id, 30_000)).stopReason, "timeout");
    });

    test("has freed the volumes when it is done, whatever still held files on them open", async () => {
      await createVolume("freed");
      for (let round = 0; round < 3; round += 1) {
        const sandbox = await Sandbox.create({ volumes: { "/v": "freed" }, timeout: "5m" });
        await sandbox.spawn("sh", { args: ["-c", "cd /v; exec 3>>log; while :; do echo line >&3; done"] });
        await eventually("the first lines", () =>
          sandbox.fs.stat("/v/log").then(
            ({ size }) => size || null,
            () => null,
          ),
        );
        await killSandbox(server, sandbox.id);
        const grown = await server.request("/api/v2/volumes/freed/snapshot", {
          method: "POST",
          json: { slug: `round-${round}` },
        });
        assert.ok(grown.ok, await grown.text());
        const details = await server.request(`/api/v2/snapshots/round-${round}`, {
          headers: { accept: "application/vnd.caisson+json" },
        });
        assert.equal(((await details.json()) as { consistency: string }).consistency, "clean");
      }
      const deleted = await server.request("/api/v2/volumes/freed", { method: "DELETE" });
      assert.ok(deleted.ok);
    });
  });

  suite("limits", () => {
    test("memory outside 768 to 4096 MiB is refused, and what was asked for is what there is", async () => {
      for (const memory_mb of [767, 4097, 1024.5, "1024"]) {
        await assert.rejects(RawSandbox.create(server, { memory_mb }), { status: 400, code: "INVALID_MEMORY" });
      }
      const limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null";
      for (const [config, mebibytes] of [
        [{}, 1280],
        [{ memory_mb: 768 }, 768],
        [{ memory_mb: 4096 }, 4096],
      ] as const) {
        await using sandbox = await RawSandbox.create(server, config);
        assert.equal(await sandbox.run(limit), String(mebibytes * 2 ** 20));
      }
    });

    test("labels over the limits are refused", async () => {
      const six = Object.fromEntries(Array.from({ length: 6 }, (_, index) => [`key${index}`, "value"]));
      for (const labels of [six, { ["k".repeat(65)]: "v" }, { k: "v".repeat(129) }]) {
        await assert.rejects(RawSandbox.create(server, { labels }), { status: 400, code: "INVALID_LABELS" });
      }
    });

    test("sandboxes over the organization's limit are refused until one ends", async () => {
      const open: RawSandbox[] = [];
      await eventually("the end of the other tests' sandboxes", async () =>
        (await client.sandboxes.list()).some(({ status }) => status === "running") ? null : true,
      );
      try {
        for (let count = 0; count < MAX_SANDBOXES; count += 1)
          open.push(await RawSandbox.create(server, { memory_mb: 768, timeout: "5m" }));
        await assert.rejects(RawSandbox.create(server, {}), { status: 429, code: "CONCURRENCY_LIMIT_EXCEEDED" });
        const [first] = open.splice(0, 1);
        await killSandbox(server, first?.id ?? "");
        open.push(await RawSandbox.create(server, { memory_mb: 768, timeout: "5m" }));
      } finally {
        await Promise.all(open.map(({ id }) => server.request(`/api/v3/sandbox/${id}`, { method: "DELETE" })));
      }
    });

    test("20 sandboxes are created at once without a failure, each with an id and an address of its own", async () => {
      const sandboxes = await Promise.all(
        Array.from({ length: 20 }, () => RawSandbox.create(server, { memory_mb: 768, timeout: "5m" })),
      );
      const addresses = await Promise.all(sandboxes.map((sandbox) => sandbox.run("hostname -I")));
      assert.equal(new Set(addresses).size, 20, `${addresses}`);
      assert.equal(new Set(sandboxes.map(({ id }) => id)).size, 20);
      await Promise.all(sandboxes.map(({ id }) => killSandbox(server, id)));
    });
  });

  test("the list filters by labels in both clients' dialects and shows running and stopped ones", async () => {
    const labels = { job: "lists", note: 'it\'s a "test"' };
    const running = await Sandbox.create({ labels, timeout: "5m" });
    const ended = await Sandbox.create({ labels: { job: "lists" } });
    await ended.kill();
    const listed = await client.sandboxes.list({ labels: { job: "lists" } });
    assert.deepEqual(
      listed.map(({ id, status }) => [id, status]),
      [
        [running.id, "running"],
        [ended.id, "stopped"],
      ],
    );
    assert.deepEqual(
      (await client.sandboxes.list({ labels })).map(({ id }) => id),
      [running.id],
    );
    assert.deepEqual(await client.sandboxes.list({ labels: { job: "lists", note: "other" } }), []);

    const python = new URLSearchParams({ labels: `{'job': 'lists', 'note': 'it\\'s a "test"'}` });
    const response = await server.request(`/api/v3/sandboxes?${python}`);
    const [found, ...others] = (await response.json()) as Record<string, unknown>[];
    assert.equal(others.length, 0);
    assert.deepEqual(Object.keys(found ?? {}).sort(), ["createdAt", "id", "labels", "region", "status", "stoppedAt"]);
    assert.deepEqual([found?.id, found?.labels, found?.stoppedAt, found?.region], [running.id, labels, null, "ord"]);
    await running.kill();
  });

  suite("the end of the server", () => {
    test("by a signal ends its sandboxes cleanly; their rows say so and their files are there", async () => {
      await createVolume("stopped");
      const sandbox = await RawSandbox.create(server, { timeout: "5m", volumes: { "/v": "stopped" } });
      await sandbox.run("echo written > /v/file");
      const others = await Promise.all(Array.from({ length: 6 }, () => RawSandbox.create(server, { memory_mb: 768 })));
      assert.equal(await within(30_000, "the end of the server", server.stop()), 0);
      for (const { closed } of [sandbox, ...others]) assert.ok([1000, 1001].includes(await closed));
      await restart();
      assert.equal((await get(sandbox.id)).stopReason, "server-stopped");
      await using next = await RawSandbox.create(server, { volumes: { "/v": "stopped" } });
      assert.equal(await next.run("cat /v/file"), "written");
    });

    test("by a crash loses nothing that was synced; rows say why, volumes are free, nothing is left", async () => {
      await createVolume("crashed");
      const sandbox = await RawSandbox.create(server, { timeout: "5m", volumes: { "/v": "crashed" } });
      await sandbox.run("echo synced > /v/file && sync -f /v/file && echo later > /v/other");
      await server.kill();
      await restart();
      const { status, stopReason, stoppedAt } = await get(sandbox.id);
      assert.deepEqual([status, stopReason, stoppedAt === null], ["stopped", "server-restart", false]);
      await assert.rejects(RawSandbox.connect(server, sandbox.id), { status: 404, code: "SANDBOX_NOT_FOUND" });
      await using next = await RawSandbox.create(server, { volumes: { "/v": "crashed" } });
      assert.equal(await next.run("cat /v/file"), "synced");
      assert.equal(await next.run("touch /v/new && echo writable"), "writable");
    });
  });
});
