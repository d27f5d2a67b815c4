import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { settleAll } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { TestCeph } from "@caisson/storage/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { mainProcess, processTree, signalAll } from "./support/cluster/processes.ts";
import { eventually, untilSuccess } from "./support/eventually.ts";
import { TestNodeProcess } from "./support/node-process.ts";
import { TestServer } from "./support/server.ts";
import { usePostgres } from "./support/test-database.ts";

const NODES = "/api/v1/nodes";

interface NodeShown {
  readonly id: string;
  readonly state: string;
  readonly connected: boolean;
  readonly run: string;
  readonly generation: number;
  readonly lease_until: string;
}

/** A server without a node of its own, with PostgreSQL, and three nodes with one pool of Ceph. */
async function withNodes(
  run: (world: { readonly client: TestClient; readonly nodes: readonly TestNodeProcess[] }) => Promise<void>,
): Promise<void> {
  await usePostgres();
  await using resources = new AsyncDisposableStack();
  const ceph = resources.adopt(await TestCeph.start({ store: "bluestore", sizeBytes: 8 * 2 ** 30 }), (it) => it.stop());
  const server = resources.use(await TestServer.start({ role: "control" }));
  Object.assign(process.env, server.clientEnv());
  const client = new TestClient(server);
  const { conf, user, pool } = ceph;
  const settings = `[sandboxes]\nwarm_sandboxes = 0\n[replicated]\nconf = "${conf}"\nuser = "${user}"\npool = "${pool}"\n`;
  const nodes: TestNodeProcess[] = [];
  for (let index = 0; index < 3; index += 1) nodes.push(resources.use(await TestNodeProcess.create({ settings })));
  await settleAll(
    nodes.map(async (node) => {
      const { token } = await client.rest<{ token: string }>("POST", `${NODES}/tokens`, {});
      await node.start(token);
      await eventually(
        "the node is connected",
        async () => {
          const shown = await client.rest<NodeShown>("GET", `${NODES}/${node.nodeId}`);
          return (shown.connected && shown.run !== "") || null;
        },
        60_000,
      );
    }),
  );
  await run({ client, nodes });
}

/** Makes a volume on that node. */
async function makeOn(client: TestClient, node: TestNodeProcess, slug: string): Promise<void> {
  const others = (await client.rest<NodeShown[]>("GET", NODES)).filter(({ id }) => id !== node.nodeId);
  for (const { id } of others) await client.rest("POST", `${NODES}/${id}/drain`);
  await client.createVolume(slug, { storage_class: "replicated" });
  for (const { id } of others) await client.rest("POST", `${NODES}/${id}/undrain`);
}

async function untilMissed(client: TestClient, { nodeId }: TestNodeProcess): Promise<void> {
  await eventually(
    "the server misses the node",
    async () => !(await client.rest<NodeShown>("GET", `${NODES}/${nodeId}`)).connected || null,
    60_000,
  );
}

/** Lets a sandbox append numbers to a file of the volume, each on stable storage before it is told of, until its node is gone. Returns which was told of last. */
async function writeTo(slug: string): Promise<() => number> {
  const sandbox = await Sandbox.create({ volumes: { "/f": slug }, timeout: "20m" });
  const script = "i=0; while :; do i=$((i+1)); echo $i >> /f/log; sync /f/log; echo $i; done";
  const child = await sandbox.spawn("bash", { args: ["-c", script], stdout: "piped" });
  const reader = child.stdout?.pipeThrough(new TextDecoderStream()).getReader();
  assert.ok(reader);
  let told = 0;
  const read = async (): Promise<void> => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      // A line that was cut off is a smaller number.
      for (const line of value.trim().split("\n")) told = Math.max(told, Number(line));
    }
  };
  void child.status.catch(() => {});
  void read().catch(() => {});
  await eventually("the writer's first lines", () => (told >= 30 ? told : null), 60_000);
  return () => told;
}

suite("replicated volumes of nodes that are lost", { timeout: testTimeoutMs(600_000) }, () => {
  test("are used on another node with all that was acknowledged, and neither a killed nor a frozen node writes to them any more", async (context) => {
    await withNodes(async ({ client, nodes }) => {
      const [killed, frozen, heir] = nodes;
      assert.ok(killed && frozen && heir);
      const writeOn = async (node: TestNodeProcess, slug: string): Promise<() => number> => {
        await makeOn(client, node, slug);
        return writeTo(slug);
      };
      const told = { "of-killed": await writeOn(killed, "of-killed"), "of-frozen": await writeOn(frozen, "of-frozen") };

      assert.ok(frozen.pid !== null);
      const main = await mainProcess(frozen.pid);
      const stopped = await processTree(main);
      signalAll(stopped, "SIGSTOP");
      const beingTaken: Promise<Sandbox>[] = [];
      try {
        // The server would take a node that is frozen, and that it has not missed yet, for the killed one's heir.
        await untilMissed(client, frozen);
        await killed.kill();
        await untilMissed(client, killed);
        const takeOver = async (slug: keyof typeof told, former: string): Promise<Sandbox> => {
          const sandbox = await untilSuccess(
            `a sandbox with ${slug}`,
            () => Sandbox.create({ volumes: { "/f": slug }, timeout: "10m" }),
            90_000,
          );
          const { lease_until } = await client.rest<NodeShown>("GET", `${NODES}/${former}`);
          const tookMs = Date.now() - Date.parse(lease_until);
          context.diagnostic(`${slug}: used on another node ${tookMs} ms after the end of the lease`);
          assert.ok(tookMs > 0, "nobody takes over what a lease still holds");
          const lines = (await sandbox.fs.readTextFile("/f/log")).trim().split("\n");
          assert.ok(lines.length >= told[slug](), `${lines.length} lines of ${told[slug]()} that were acknowledged`);
          assert.deepEqual(
            lines,
            lines.map((_, index) => String(index + 1)),
          );
          await sandbox.sh`echo taken over >> /f/log; sync /f/log`;
          return sandbox;
        };
        beingTaken.push(takeOver("of-killed", killed.nodeId), takeOver("of-frozen", frozen.nodeId));
        await Promise.all(beingTaken);
      } finally {
        await Promise.allSettled(beingTaken);
        signalAll(stopped, "SIGCONT");
      }

      // It goes on where it was, and is told.
      assert.equal(await frozen.exited(), 1);
      assert.match(frozen.logText(), /ends with all its sandboxes.*another node has taken over/);
      const [, ofFrozen] = await Promise.all(beingTaken);
      await ofFrozen?.kill();
      const last = await client.with({ volumes: { "/f": "of-frozen" } }, (sandbox) =>
        sandbox.fs.readTextFile("/f/log"),
      );
      assert.ok(last.endsWith("\ntaken over\n"), last.slice(-100));

      // The next runs have what is their own, and not what was taken over.
      await Promise.all([killed.start(), frozen.start()]);
      const back = await eventually(
        "the next run of the node",
        async () => {
          const shown = await client.rest<NodeShown>("GET", `${NODES}/${frozen.nodeId}`);
          return shown.connected && shown.state === "live" ? shown : null;
        },
        60_000,
      );
      assert.equal(back.generation, 2);
      await heir.stop();
      const [code, message] = await client.refused("POST", "/api/v2/volumes/of-frozen/snapshot", { slug: "none" });
      assert.equal(code, "503 NODE_UNAVAILABLE");
      assert.match(message, new RegExp(`it is on node ${heir.nodeId}`));
    });
  });
});
