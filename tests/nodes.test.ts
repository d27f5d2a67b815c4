import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { FaultPlan, type FaultPoint } from "./support/fault-plan.ts";
import { TestServer } from "./support/server.ts";

interface Node {
  readonly id: string;
  readonly state: string;
  readonly generation: number;
  readonly seen_at: string;
  readonly places: number;
  readonly places_taken: number;
  readonly memory_mib: number | null;
  readonly memory_taken_mib: number;
}

interface Loss {
  readonly volumes: number;
  readonly sandboxes: number;
}

const NODES = "/api/v1/nodes";
const OTHER = "nod_other";

/** The row of another node whose lease is over, and what it has under way: nothing of that is for this server to settle. */
const OTHERS_ROWS = `
  INSERT INTO nodes (id, regions, address, labels, generation, lease_until_ms, started_at_ms, seen_at_ms, places, reserved_places, reserved_memory_mib)
    VALUES ('${OTHER}', '["ord"]', 'other', '{}', 7, 1, 1, 1, 9, 1, 1280);
  INSERT INTO disks (node_id, node_generation, kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, labels, created_at_ms,
    deleted_at_ms, purge_at_ms, grow_to_bytes)
    SELECT '${OTHER}', 7, 'volume', 'vol_ord_' || name, organizations.id, name, 'ord', state, 300000000, 0, '{}', 1, deleted, deleted, growth FROM organizations, (
      SELECT 'creating' AS name, 'creating' AS state, NULL AS deleted, NULL AS growth UNION ALL SELECT 'due', 'deleted', 1, NULL
      UNION ALL SELECT 'purging', 'purging', 1, NULL UNION ALL SELECT 'growing', 'creating', NULL, 400000000);
  UPDATE disks SET state = 'ready' WHERE slug = 'growing';
  INSERT INTO sandboxes (node_id, node_generation, id, organization_id, region, status, labels, memory_mib, created_at_ms)
    SELECT '${OTHER}', 7, 'sbx_ord_other', id, 'ord', 'running', '{}', 1280, 1 FROM organizations;
  INSERT INTO holds (volume_id, sandbox_id, is_read_only) VALUES ('vol_ord_growing', 'sbx_ord_other', 0);`;

suite("a server as a node", { timeout: testTimeoutMs(900_000) }, () => {
  const withPlan = async (work: (plan: FaultPlan) => Promise<void>): Promise<void> => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-nodes-"));
    try {
      const plan = new FaultPlan(directory);
      await plan.reset();
      await work(plan);
    } finally {
      await rm(directory, { recursive: true });
    }
  };

  test("takes no new sandboxes while it is drained, also after a restart, and those that it has go on", async () => {
    await using server = await TestServer.start({
      settings: '[node]\naddress = "10.1.2.3"\nlabels = { rack = "b4" }\n',
    });
    Object.assign(process.env, server.clientEnv());
    const client = new TestClient(server);
    const [node] = await client.rest<Node[]>("GET", NODES);
    assert.ok(node);
    const { id } = node;
    const expected = {
      connected: true,
      problem: null,
      address: "10.1.2.3",
      labels: { rack: "b4" },
      state: "live",
      places_taken: 0,
      memory_taken_mib: 0,
    };
    assert.deepEqual({ ...node, ...expected }, node);
    assert.equal((JSON.parse(await readFile(join(server.dataDirectory, "node.json"), "utf8")) as Node).id, id);
    const sandbox = await Sandbox.create({ timeout: "5m", memory: "1024MiB" });
    const taken = async () => {
      const { places_taken: places, memory_taken_mib: memoryMib } = await client.rest<Node>("GET", `${NODES}/${id}`);
      return [places, memoryMib];
    };
    assert.deepEqual(await taken(), [1, 1024]);
    for (let repeated = 0; repeated < 2; repeated += 1)
      assert.equal((await client.rest<Node>("POST", `${NODES}/${id}/drain`)).state, "draining");
    const [code, message] = await client.createRefused({});
    assert.equal(code, "503 NODE_UNAVAILABLE");
    assert.match(message, new RegExp(`on node ${id}: it is being drained.*caisson nodes undrain ${id}`));
    assert.doesNotMatch(server.logText(), /"level":50/, "a node that is drained is no fault of the server");
    assert.equal((await sandbox.sh`echo alive`.text()).trim(), "alive");
    const volume = await client.createVolume("kept");
    const { id: snapshotId } = await client.snapshot("kept", "copy");
    const nodeOf = async (path: string) => (await client.extended<{ node: string }>("GET", path)).node;
    for (const path of [
      `/api/v2/volumes/${volume.id}`,
      `/api/v2/snapshots/${snapshotId}`,
      `/api/v3/sandbox/${sandbox.id}`,
    ])
      assert.equal(await nodeOf(path), id, path);
    const [listed] = await client.extended<{ node: string }[]>("GET", "/api/v3/sandboxes");
    assert.equal(listed?.node, id);
    assert.deepEqual(await client.refused("DELETE", `${NODES}/${id}`), [
      "409 NODE_IN_USE",
      `Cannot forget node ${id}: this server is that node. Forget it through the server of another node, when this one runs no more`,
    ]);
    await client.rest("POST", "/api/v1/organizations", { slug: "acme" });
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/tokens", {
      name: "a",
      organization: "acme",
    });
    const [moved] = await client.refused(
      "PATCH",
      `${NODES}/${id}`,
      { address: "10.0.0.9:1" },
      { authorization: `Bearer ${token}` },
    );
    assert.equal(moved, "403 FORBIDDEN");
    for (const [method, path] of [
      ["GET", NODES],
      ["GET", `${NODES}/${id}`],
      ["POST", `${NODES}/${id}/drain`],
      ["POST", `${NODES}/${id}/undrain`],
      ["DELETE", `${NODES}/${id}`],
    ] as const)
      assert.equal(
        (await client.refused(method, path, undefined, { authorization: `Bearer ${token}` }))[0],
        "403 FORBIDDEN",
      );

    await server.kill();
    await sandbox.close().catch(() => {});
    await server.start();
    Object.assign(process.env, server.clientEnv());
    const [again, ...others] = await client.rest<Node[]>("GET", NODES);
    assert.deepEqual([again?.id, again?.generation, again?.state, others.length], [id, 2, "draining", 0]);
    assert.deepEqual(await taken(), [0, 0], "what its last run had is given back");
    assert.match(server.logText(), /this node is being drained.*caisson nodes undrain/);
    assert.equal((await client.createRefused({}))[0], "503 NODE_UNAVAILABLE");
    assert.equal((await client.rest<Node>("POST", `${NODES}/${id}/undrain`)).state, "live");
    await client.with({ volumes: { "/v": "kept" } }, (next) => next.fs.writeTextFile("/v/file", "written"));
    const events = await client.rest<{ verb: string }[]>("GET", `/api/v1/events?object=${id}`);
    assert.deepEqual(
      events.map(({ verb }) => verb),
      ["node-undrain", "node-drain"],
    );
  });

  test("gives its sandboxes no more memory than the settings say", async () => {
    await using server = await TestServer.start({ settings: '[sandboxes]\nmax_memory = "2GiB"\n' });
    Object.assign(process.env, server.clientEnv());
    const client = new TestClient(server);
    await using first = await Sandbox.create({ memory: "1280MiB" });
    const [code, message] = await client.createRefused({ memory: "1280MiB" });
    assert.equal(code, "503 SERVER_FULL");
    assert.match(message, /1280 MiB of memory: .* 768 MiB are left/);
    await client.with({ memory: "768MiB" }, async (small) =>
      assert.equal((await small.sh`echo alive`.text()).trim(), "alive"),
    );
    assert.equal((await first.sh`echo alive`.text()).trim(), "alive");
  });

  test("leaves what other nodes have under way alone, and says where it is", async () => {
    await using server = await TestServer.start();
    const client = new TestClient(server);
    await server.stop();
    const withRows = <T>(work: (database: DatabaseSync) => T): T => {
      using database = new DatabaseSync(join(server.dataDirectory, "database/caisson.db"));
      return work(database);
    };
    const others = () =>
      withRows((database) => [
        ...database.prepare("SELECT * FROM disks ORDER BY id").all(),
        ...database.prepare("SELECT * FROM sandboxes").all(),
        ...database.prepare("SELECT * FROM holds").all(),
        database.prepare("SELECT * FROM nodes WHERE id = ?").get(OTHER),
      ]);
    withRows((database) => database.exec(OTHERS_ROWS));
    const before = others();
    assert.equal(before.length, 7);
    await server.start();
    assert.doesNotMatch(server.logText(), /missing from the pool|"level":50/);
    const elsewhere = /it is on node nod_other, which this server cannot reach.*caisson nodes show nod_other/;
    const volume = await client.extended<{ unavailable: string; node: string }>("GET", "/api/v2/volumes/growing");
    assert.equal(volume.node, OTHER);
    assert.match(volume.unavailable, elsewhere);
    for (const [method, path, body] of [
      ["POST", "/api/v2/volumes/growing/snapshot", { slug: "copy" }],
      ["DELETE", "/api/v3/sandbox/sbx_ord_other", undefined],
    ] as const) {
      const [code, message] = await client.refused(method, path, body);
      assert.equal(code, "503 NODE_UNAVAILABLE");
      assert.match(message, elsewhere);
    }
    Object.assign(process.env, server.clientEnv());
    await client.createVolume("mine");
    for (const volumes of [{ "/v": "growing" }, { "/a": "mine", "/b": "growing" }])
      assert.equal((await client.createRefused({ volumes }))[0], "503 NODE_UNAVAILABLE");
    await client.rest("DELETE", "/api/v2/volumes/mine?now=true");
    const lost = await client.rest<Node>("GET", `${NODES}/${OTHER}`);
    const problem = "Cannot reach it: this server is not connected to it";
    assert.deepEqual({ ...lost, state: "suspect", connected: false, problem }, lost);
    const pools = await client.rest<{ node: string; problem: string | null; total: number }[]>("GET", "/api/v1/pools");
    assert.deepEqual(pools.map((pool) => [pool.node === OTHER, pool.problem === null, pool.total > 0]).sort(), [
      [false, true, true],
      [true, false, false],
    ]);
    const [code, message] = await client.refused("DELETE", `${NODES}/${OTHER}`);
    assert.equal(code, "409 NODE_IN_USE");
    assert.match(message, /it has vol_ord_\w+\. Start it again and purge .*: caisson nodes forget nod_other --lost$/);
    await server.stop();
    assert.deepEqual(others(), before);

    withRows((database) => database.exec("DELETE FROM holds; DELETE FROM sandboxes; DELETE FROM disks"));
    await server.start();
    await client.rest("DELETE", `${NODES}/${OTHER}`);
    assert.equal((await client.refused("GET", `${NODES}/${OTHER}`))[0], "404 NODE_NOT_FOUND");
    assert.equal((await client.rest<Node[]>("GET", NODES)).length, 1);
  });

  test("is the same node after a kill at any step of its start, and when its file was lost", () =>
    withPlan(async (plan) => {
      await using server = await TestServer.start({ env: plan.env });
      const client = new TestClient(server);
      const nodes = async () => client.rest<Node[]>("GET", NODES);
      const [first] = await nodes();
      await server.stop();
      await rm(join(server.dataDirectory, "node.json"));
      for (const tag of [
        "node-file.commit:before",
        "node-file.commit:after",
        "node-begin.commit:before",
        "node-begin.commit:after",
      ]) {
        await plan.at([{ tag, occurrence: 1 }], "kill");
        await assert.rejects(server.start(), /exited with/, tag);
      }
      await plan.reset();
      await server.start();
      const [last, ...others] = await nodes();
      assert.deepEqual([last?.id, last?.generation, others.length], [first?.id, 3, 0]);
      await server.stop();
      await writeFile(join(server.dataDirectory, "node.json"), '{"id": "nod_stranger"}');
      await assert.rejects(
        server.start(),
        new RegExp(`node.json names node nod_stranger, which the database does not know: it knows ${first?.id}\\. `),
      );
    }));

  test("forgets a lost node with what it had at last, at whatever step of that it is killed", () =>
    withPlan(async (plan) => {
      await using server = await TestServer.start({ env: plan.env });
      const client = new TestClient(server);
      await server.stop();
      const withRows = <T>(work: (database: DatabaseSync) => T): T => {
        using database = new DatabaseSync(join(server.dataDirectory, "database/caisson.db"));
        return work(database);
      };
      withRows((database) => database.exec(OTHERS_ROWS));
      await server.start();
      const { volumes, sandboxes } = await client.rest<Loss>("GET", `${NODES}/${OTHER}/loss`);
      assert.deepEqual([volumes, sandboxes], [2, 1]);
      for (const [tag, state] of [
        ["node-forget.intent:before", "suspect"],
        ["node-forget.intent:after", "lost"],
      ] as const) {
        await plan.at([{ tag, occurrence: 1 }], "kill");
        await assert.rejects(client.rest("DELETE", `${NODES}/${OTHER}?lost=true`), tag);
        await server.exited();
        const lostAtMs = withRows((database) =>
          database.prepare("SELECT lost_at_ms FROM nodes WHERE id = ?").get(OTHER),
        );
        assert.equal(lostAtMs?.lost_at_ms !== null, state === "lost", tag);
        await plan.reset();
        if (state === "suspect") await server.start();
      }
      for (const name of ["sandbox", "disks", "commit"])
        for (const when of ["before", "after"]) {
          await plan.at([{ tag: `node-forget.${name}:${when}`, occurrence: 1 }], "kill");
          await assert.rejects(server.start(), /exited with/, `${name}:${when}`);
        }
      await plan.reset();
      await server.start();
      assert.equal((await client.refused("GET", `${NODES}/${OTHER}`))[0], "404 NODE_NOT_FOUND");
      const lost = /the node nod_other that held it was forgotten on \d{4}-/;
      assert.match(
        (await client.extended<{ unavailable: string }>("GET", "/api/v2/volumes/growing")).unavailable,
        lost,
      );
      const [code, message] = await client.refused("POST", "/api/v2/volumes/growing/snapshot", { slug: "copy" });
      assert.equal(code, "409 DISK_LOST");
      assert.match(message, lost);
      const told = withRows((database) => [
        database.prepare("SELECT status, stop_reason FROM sandboxes").all(),
        database.prepare("SELECT count(*) AS count FROM holds").get(),
        database
          .prepare("SELECT verb FROM events WHERE object_id IN ('vol_ord_growing', 'sbx_ord_other') ORDER BY verb")
          .all(),
      ]);
      assert.deepEqual(JSON.parse(JSON.stringify(told)), [
        [{ status: "stopped", stop_reason: "node-lost" }],
        { count: 0 },
        [{ verb: "sandbox-end" }, { verb: "volume-lose" }],
      ]);
      await client.rest("DELETE", "/api/v2/volumes/growing?now=true");
      await client.createVolume("growing");
    }));

  test("renews its lease, and a renewal that fails ends nothing and is told once", () =>
    withPlan(async (plan) => {
      await using server = await TestServer.start({ env: plan.env });
      Object.assign(process.env, server.clientEnv());
      const client = new TestClient(server);
      const seen = async () => (await client.rest<Node[]>("GET", NODES))[0]?.seen_at ?? "";
      const began = await seen();
      const renewed = await eventually("a renewal", async () => ((await seen()) > began ? await seen() : null), 60_000);
      await using sandbox = await Sandbox.create();
      const points = Array.from(
        { length: 1000 },
        (_, index): FaultPoint => ({ tag: "node-renew.commit", occurrence: index + 1 }),
      );
      await plan.at(points, "fail:EIO");
      const failures = async () => (await plan.passed()).filter(({ tag }) => tag === "node-renew.commit").length;
      await eventually("three renewals that fail", async () => ((await failures()) >= 3 ? true : null), 120_000);
      const count = (text: RegExp) => server.logText().match(text)?.length ?? 0;
      assert.equal(count(/cannot renew the lease of this node/g), 1);
      await client.with({}, async (next) => assert.equal((await next.sh`echo alive`.text()).trim(), "alive"));
      await plan.reset();
      await eventually("the lease is renewed again", async () => ((await seen()) > renewed ? true : null), 60_000);
      await eventually("the line in the log", () => (count(/is renewed again/g) === 1 ? true : null), 60_000);
      assert.equal(count(/cannot renew the lease of this node/g), 1);
      assert.equal((await sandbox.sh`echo alive`.text()).trim(), "alive");
    }));
});
