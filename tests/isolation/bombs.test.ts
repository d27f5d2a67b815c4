import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { Client, Sandbox } from "@deno/sandbox";
import { endInTurn } from "../support/end-in-turn.ts";
import { eventually, within } from "../support/eventually.ts";
import { killSandbox } from "../support/kill-sandbox.ts";
import { anonymousBytes, serverPid } from "../support/memory.ts";
import { RawSandbox } from "../support/raw-sandbox.ts";
import { TestServer } from "../support/server.ts";

const MIB = 2 ** 20;
/** Generous, since the machine may be busy with other tests: a starved neighbour would not answer at all. */
const ANSWER_DEADLINE_MS = 30_000;

/** Whatever a sandbox does to its own resources, another one and the server answer meanwhile, and it can be ended. */
suite("resource bombs", () => {
  let server: TestServer;
  let neighbour: Sandbox;

  before(async () => {
    // Small enough to be full in a moment.
    server = await TestServer.start({ settings: `[sandboxes]\npids = 256\nscratch = "600MB"\n` });
    Object.assign(process.env, server.clientEnv());
    neighbour = await Sandbox.create();
  });
  after(() =>
    endInTurn(
      () => neighbour && killSandbox(server, neighbour.id),
      () => server?.[Symbol.asyncDispose](),
    ),
  );

  const inSandbox = async (
    work: (sandbox: Sandbox, sh: (script: string) => Promise<string>) => Promise<void>,
    options: Parameters<typeof Sandbox.create>[0] = {},
  ): Promise<void> => {
    const sandbox = await Sandbox.create({ memory: "768MiB", timeout: "5m", ...options });
    const sh = async (script: string): Promise<string> => {
      const child = await sandbox.spawn("bash", { args: ["-c", script], stdout: "piped", stderr: "piped" });
      const { stdoutText, stderrText } = await child.output();
      return `${stdoutText}${stderrText}`.trim();
    };
    try {
      await work(sandbox, sh);
    } finally {
      const ended = await within(
        ANSWER_DEADLINE_MS,
        "ending the sandbox",
        server.request(`/api/v3/sandbox/${sandbox.id}`, { method: "DELETE" }),
      );
      // 404: it has ended by itself. 202: its end takes longer than a request waits, on a busy machine.
      assert.ok([202, 204, 404].includes(ended.status), `${ended.status}`);
    }
  };

  /** The neighbour runs commands and writes files, the server answers and starts further sandboxes. */
  const assertOthersUnharmed = async (): Promise<void> => {
    const usual = async (): Promise<void> => {
      assert.equal((await neighbour.sh`echo alive`.text()).trim(), "alive");
      await neighbour.fs.writeFile("/tmp/file", new Uint8Array(MIB));
      assert.equal((await server.request("/api/v2/volumes")).status, 200);
      const another = await Sandbox.create({ memory: "768MiB" });
      assert.equal((await another.sh`echo started`.text()).trim(), "started");
      await killSandbox(server, another.id);
    };
    await within(ANSWER_DEADLINE_MS, "what others do", usual());
  };

  test("a fork bomb meets its own limit of processes", async () => {
    await inSandbox(async (sandbox) => {
      const bomb = `
import os, time
failures = set()
def grow():
    while True:
        try:
            if os.fork() == 0: time.sleep(0.01)
        except OSError as error:
            open("/tmp/meets", "w").write(os.strerror(error.errno)); time.sleep(0.05)
grow()`;
      await sandbox.spawn("python3", { args: ["-c", bomb], stdout: "null", stderr: "null" });
      const meets = await eventually("the limit", async () => {
        const text = await sandbox.fs.readTextFile("/tmp/meets").catch(() => "");
        if (text !== "") return text;
        const row = (await (await server.request(`/api/v3/sandbox/${sandbox.id}`)).json()) as {
          stopReason: string | null;
        };
        return row.stopReason;
      });
      // The agent shares the limit and cannot live without new threads, so the bomb may end its own sandbox.
      assert.ok(["Resource temporarily unavailable", "exited"].includes(meets), meets);
      await assertOthersUnharmed();
      assert.ok((await processCount(neighbour)) < 20);
    });
  });

  test("a memory bomb is ended within its own memory", async () => {
    await inSandbox(async (sandbox) => {
      const bomb = "import os\nfor _ in range(3): os.fork()\nx = []\nwhile True: x.append(bytearray(1 << 22))";
      const children = await Promise.all(
        [1, 2].map(() => sandbox.spawn("python3", { args: ["-c", bomb], stdout: "null", stderr: "null" })),
      );
      await assertOthersUnharmed();
      for (const child of children) assert.equal((await child.status).signal, "SIGKILL");
      assert.equal((await sandbox.sh`echo the agent lives`.text()).trim(), "the agent lives");
    });
  });

  test("shared memory and temporary file systems count as the sandbox's own memory", async () => {
    await inSandbox(async (_sandbox, sh) => {
      assert.match(
        await sh("head -c 2G /dev/zero >/dev/shm/flood; echo ended with $?"),
        /No space left|Killed|ended with 1/,
      );
      await assertOthersUnharmed();
      const [size = 0] = (await sh("df -B1 --output=size /dev/shm | tail -1")).split("\n").map(Number);
      assert.ok(size <= 768 * MIB);
      assert.match(await sh("head -c 2G /dev/zero >/run/flood"), /No space left/);
      assert.match(await sh("head -c 1M /dev/zero >/dev/flood"), /No space left/);
    });
  });

  test("a full scratch disk is full for its own sandbox alone", async () => {
    await inSandbox(async (sandbox, sh) => {
      assert.match(await sh("head -c 2G /dev/zero >/home/app/flood"), /No space left on device/);
      await assert.rejects(sandbox.fs.writeFile("/tmp/more", new Uint8Array(4 * MIB)), { code: "ENOSPC" });
      await assertOthersUnharmed();
      await sandbox.fs.remove("/home/app/flood");
      await sandbox.fs.writeFile("/tmp/more", new Uint8Array(4 * MIB));
    });
  });

  test("a full volume says so, keeps what it has, and takes writes again after a deletion", async () => {
    const client = new Client();
    await client.volumes.create({ slug: "full", region: "ord", capacity: "300MB" });
    await inSandbox(
      async (sandbox, sh) => {
        await sandbox.fs.writeTextFile("/v/kept", "kept");
        assert.match(await sh("head -c 1G /dev/zero >/v/flood; sync"), /No space left on device/);
        await assert.rejects(sandbox.fs.writeFile("/v/more", new Uint8Array(4 * MIB)), { code: "ENOSPC" });
        await assertOthersUnharmed();
      },
      { volumes: { "/v": "full" } },
    );
    await inSandbox(
      async (sandbox) => {
        assert.equal(await sandbox.fs.readTextFile("/v/kept"), "kept");
        await sandbox.fs.remove("/v/flood");
        await sandbox.fs.writeFile("/v/more", new Uint8Array(4 * MIB));
      },
      { volumes: { "/v": "full" } },
    );
    await client.volumes.delete("full");
  });

  test("a bomb of empty files meets the volume's own number of them", async () => {
    const client = new Client();
    await client.volumes.create({ slug: "inodes", region: "ord", capacity: "300MB" });
    await inSandbox(
      async (sandbox, sh) => {
        const bomb =
          "import os\ni = 0\ntry:\n  while True: os.close(os.open(f'/v/{i}', os.O_CREAT)); i += 1\nexcept OSError as e: print(i, os.strerror(e.errno))";
        const [count = "", ...error] = (await sh(`python3 -c "${bomb}"`)).split(" ");
        assert.equal(error.join(" "), "No space left on device");
        assert.ok(Number(count) > 1000 && Number(count) < 1_000_000, count);
        await assertOthersUnharmed();
        await sandbox.fs.remove("/v/0");
        await sandbox.fs.writeTextFile("/v/again", "");
      },
      { volumes: { "/v": "inodes" } },
    );
    await client.volumes.delete("inodes");
  });

  test("a flood of output that nobody reads fills no memory of the server", async () => {
    const ownPid = await serverPid(server);
    await inSandbox(async (sandbox) => {
      const before = await anonymousBytes(ownPid);
      const flooded = await Promise.all([1, 2, 3, 4].map(() => RawSandbox.connect(server, sandbox.id)));
      for (const raw of flooded) {
        const { pid } = await raw.spawn("yes", ["x".repeat(1000)]);
        void raw.call("processWait", { pid }).catch(() => {});
        raw.socket.pause();
      }
      for (let round = 0; round < 3; round += 1) await assertOthersUnharmed();
      const grownMib = ((await anonymousBytes(ownPid)) - before) / MIB;
      for (const raw of flooded) raw.crash();
      assert.ok(grownMib < 100, `the server grew by ${grownMib} MiB`);
    });
  });

  test("a flood of the agent's own log stays within its 256 KiB", async () => {
    await inSandbox(async (sandbox, sh) => {
      await sh("for i in $(seq 2000); do head -c 4096 /dev/zero >>/.caisson/run/flood || break; done");
      assert.ok(Number(await sh("df -B1 --output=used /.caisson/run | tail -1")) <= 256 * 1024);
      assert.equal((await sandbox.sh`echo alive`.text()).trim(), "alive");
      await assertOthersUnharmed();
    });
  });

  test("all processors taken by one sandbox leave the others their share", async () => {
    await inSandbox(async (sandbox) => {
      for (let count = 0; count < 64; count += 1)
        await sandbox.spawn("sh", { args: ["-c", "while :; do :; done"], stdout: "null", stderr: "null" });
      await assertOthersUnharmed();
    });
  });

  test("thousands of descriptors, sockets and timers stay within the process", async () => {
    await inSandbox(async (_sandbox, sh) => {
      const bomb = `
import os, socket
held = []
try:
    while True: held.append(socket.socketpair())
except OSError as error: print(os.strerror(error.errno))`;
      // Where the host allows many, as under systemd, what they take of the sandbox's own memory ends it.
      assert.match(await sh(`python3 -c '${bomb}' || echo "ended with $?"`), /^(Too many open files|ended with 137)$/m);
      await assertOthersUnharmed();
    });
  });
});

async function processCount(sandbox: Sandbox): Promise<number> {
  return Number(await sandbox.sh`ps -e --no-headers | wc -l`.text());
}
