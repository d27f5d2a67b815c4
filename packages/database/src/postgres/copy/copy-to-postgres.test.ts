import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, suite, test } from "node:test";
import { newId } from "@caisson/model";
import { PostgresServer } from "../../../testing/postgres-server.ts";
import { beginLapsed, SAMPLE_OWNER, sampleNode, samplePlaces, sampleSandbox } from "../../../testing/samples.ts";
import { openSqliteStore } from "../../sqlite/sqlite-store.ts";
import type { AuditEvent, NewDisk, Store } from "../../store.ts";
import { openPostgresStore } from "../postgres-store.ts";
import { copyToPostgres } from "./copy-to-postgres.ts";
import { TABLES } from "./tables.ts";

const INSTALLATION = { id: "ours", dataDirectory: "/data" };
const hooks = {
  startWaitMs: 500,
  onDisplaced(error: Error): void {
    throw error;
  },
};
const DISK_COUNT = 1200;
const usage = {
  consistency: null,
  allocatedBytes: 1,
  flattenedBytes: 2,
  exclusiveBytes: 3,
  inodes: 4,
  usedInodes: null,
  usageMeasuredAtMs: 1_795_000_000_000,
};

const event = (objectId: string): AuditEvent => ({
  organizationId: "org_a",
  atMs: 1_795_000_000_000,
  actor: "tok_1",
  verb: "test",
  objectId,
  outcome: "ok",
  detail: { text: "x\0y", nested: [1, null] },
});

const disk = (slug: string, values: Partial<NewDisk> = {}): NewDisk => ({
  kind: "volume",
  id: newId("vol", "ord"),
  owner: SAMPLE_OWNER,
  organizationId: "org_a",
  slug,
  region: "ord",
  capacityBytes: 2 ** 40,
  isBootable: true,
  consistency: null,
  parent: { kind: "builtin", id: "img_1", slug: "debian" },
  baseSnapshot: null,
  baseImageId: "img_1",
  everyMs: 300_000,
  labels: { "": "x\0y", é: '日本"' },
  createdAtMs: 1_795_000_000_000,
  ...values,
});

/** Something of every kind and state. */
async function fill(store: Store): Promise<void> {
  await store.organizations.create({ id: "org_a", slug: "a", createdAtMs: 1 }, event("org_a"));
  await store.organizations.create({ id: "org_b", slug: "b", createdAtMs: 2 }, event("org_b"));
  const labels = { rack: "a", "": "x\0y" };
  const node = { regions: ["ord", "ams"], address: "10.0.0.1", labels, capacity: { places: 253, memoryMib: 65_536 } };
  await store.nodes.begin(sampleNode(node), 60_000);
  const other = await store.nodes.begin(sampleNode({ ...node, id: "nod_other" }), 60_000);
  await store.nodes.renew({ nodeId: other.id, generation: other.generation }, 60_000, { ord: 2 ** 40 });
  await store.nodes.setDraining("nod_other", true, event("nod_other"));
  await store.joining.makeAuthority({ certificate: "c", privateKey: "k" }, event("authority"));
  await store.joining.addAuthority({ certificate: "d", privateKey: "l" }, 1, event("authority"));
  await store.joining.retireAuthority(1, true, event("authority"));
  for (const [id, region, lifetimeMs] of [
    ["jtk_1", "ord", 600_000],
    ["jtk_2", null, 600_000],
    ["jtk_3", null, 0],
  ] as const)
    await store.joining.createToken({ id, region }, Buffer.from(id), lifetimeMs, event(id));
  const joining = { nodeId: "nod_joined", keyFingerprint: "SHA256:a", address: "10.0.0.3:9077" };
  await store.joining.join(Buffer.from("jtk_1"), joining, event("nod_joined"));
  await store.joining.join(Buffer.from("jtk_2"), { ...joining, nodeId: "nod_gone" }, event("nod_gone"));
  await store.nodes.forget("nod_gone", event("nod_gone"));
  const left = disk("left-behind", { owner: { nodeId: "nod_joined", generation: 0 } });
  await store.disks.reserve(left);
  await store.disks.commit(left.id, usage, event(left.id));
  await store.nodes.giveUp("nod_joined", event("nod_joined"));
  const batch = { nowMs: 8, purgeAtMs: 9, afterSequence: 0, limit: 9 };
  assert.equal((await store.disks.lose("nod_joined", batch, ({ id }) => event(id))).length, 1);
  const token = { id: "tok_1", organizationId: "org_a", name: "laptop", createdAtMs: 5 };
  await store.organizations.createToken(token, Buffer.alloc(32, 255), event("tok_1"));
  await store.organizations.createToken({ ...token, id: "tok_2" }, Buffer.alloc(32, 1), event("tok_2"));
  await store.organizations.revokeToken("org_a", "tok_2", 6, event("tok_2"));
  const made: string[] = [];
  for (let index = 0; index < DISK_COUNT; index += 1) {
    const created = disk(`volume-${index}`);
    await store.disks.reserve(created, { key: `key-${index}`, requestHash: Buffer.from([index % 256]) });
    await store.disks.commit(created.id, usage, event(created.id));
    made.push(created.id);
  }
  const [held = "", deleted = "", growing = "", broken = ""] = made;
  await store.disks.delete(deleted, 10, 20, event(deleted));
  await store.disks.beginGrow(SAMPLE_OWNER, growing, 2 ** 41);
  await store.disks.recordError(broken, { message: "writes were lost", atMs: 7 }, event(broken));
  await store.disks.reserve(disk("unfinished", { organizationId: "org_b", labels: {} }));
  const places = samplePlaces();
  for (const id of ["sbx_1", "sbx_2"])
    await store.sandboxes.reserve(sampleSandbox({ id, stopAtMs: 99, labels: { a: "b" } }), [], places);
  await store.sandboxes.finish("sbx_2", "killed", 50, event("sbx_2"), ["lost"]);
  await store.sandboxes.reserve(sampleSandbox({ id: "sbx_3" }), [{ volumeId: held, isReadOnly: true }], places);
  // The last number of a row that is gone is not given again.
  const gone = disk("gone");
  await store.disks.reserve(gone);
  await store.disks.withdraw(gone.id);
  await store.disks.forget(gone.id, null);
  // A node that was shut out, and what its heir has not settled yet.
  const sharing = (instance: string) => ({ ord: { identity: "fsid/pool", instance } });
  await store.nodes.renew(SAMPLE_OWNER, 60_000, {}, sharing("heir.1"));
  const lapsed = await beginLapsed(store, { id: "nod_lapsed", sharedPools: sharing("lapsed.1") });
  const taken = disk("taken", { owner: lapsed });
  await store.disks.reserve(taken);
  await store.disks.commit(taken.id, usage, event(taken.id));
  await store.disks.takeOver(taken.id, SAMPLE_OWNER, 60, { disk: event(taken.id), sandbox: ({ id }) => event(id) });
}

suite("the copy from SQLite to PostgreSQL", () => {
  const resources = new AsyncDisposableStack();
  let server: PostgresServer;
  let path: string;
  before(async () => {
    server = resources.use(await PostgresServer.start());
    const directory = await mkdtemp(join(tmpdir(), "caisson-copy-"));
    resources.defer(() => rm(directory, { recursive: true }));
    path = join(directory, "caisson.db");
    const store = openSqliteStore(path);
    await fill(store);
    await store.close();
  });
  after(() => resources.disposeAsync());

  test("has every table and column of SQLite, but for what is made of the others", async () => {
    const database = new DatabaseSync(path);
    try {
      const tables = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
        .all()
        .map(({ name }) => String(name))
        .filter((name) => !/^(?:disk_search|disk_totals|slug_positions)/.test(name));
      assert.deepEqual(TABLES.map(({ name }) => name).sort(), tables);
      for (const { name, columns } of TABLES) {
        const found = database.prepare(`SELECT name FROM pragma_table_info('${name}')`).all();
        assert.deepEqual([...columns].sort(), found.map((column) => String(column.name)).sort(), name);
      }
    } finally {
      database.close();
    }
  });

  test("is whole, and the store goes on from there", async () => {
    const url = await server.createDatabase();
    const { rows, wasCopied } = await copyToPostgres(path, url, INSTALLATION);
    assert.deepEqual([wasCopied, rows.disks, rows.sandboxes, rows.holds], [false, DISK_COUNT + 3, 3, 1]);
    // Connections that a failure left open would keep this process from ending.
    await using stores = new AsyncDisposableStack();
    const source = stores.adopt(openSqliteStore(path), (it) => it.close());
    const target = stores.adopt(await openPostgresStore(url, INSTALLATION, hooks), (it) => it.close());
    const lists = (store: Store) =>
      Promise.all([
        store.disks.list({ organizationId: "org_a", kind: "volume", isDeleted: false, limit: 5000 }),
        store.disks.list({ organizationId: "org_a", kind: "volume", isDeleted: true, limit: 5000 }),
        store.disks.list({ organizationId: "org_a", kind: "volume", isDeleted: false, limit: 50, search: "volume-77" }),
        store.disks.list({
          organizationId: "org_a",
          kind: "volume",
          isDeleted: false,
          limit: 50,
          labels: { "": "x\0y" },
        }),
        store.disks.listUnsettled({ ...SAMPLE_OWNER, generation: 2 }),
        store.nodes.list(),
        store.joining.authorities(),
        store.joining.listTokens(),
        store.disks.totals(),
        store.sandboxes.list("org_a", 50),
        store.sandboxes.holds("sbx_3"),
        store.organizations.list(),
        store.organizations.listTokens("org_a"),
        store.events.list("org_a", null, 5000),
      ]);
    assert.deepEqual(await lists(target), await lists(source));
    const again = { key: "key-7", requestHash: Buffer.from([7]) };
    assert.deepEqual(
      await target.disks.reserve(disk("other"), again),
      await source.disks.reserve(disk("other"), again),
    );
    const next = disk("next");
    for (const store of [source, target]) {
      await store.disks.reserve(next);
      await store.disks.commit(next.id, usage, event(next.id));
    }
    assert.deepEqual(await target.disks.get(next.id), await source.disks.get(next.id));
    await stores.disposeAsync();
    await assert.rejects(
      openPostgresStore(url, { id: "theirs", dataDirectory: "/theirs" }, hooks),
      /belongs to the data directory \/data/,
    );
  });

  test("is refused where rows are already, and while a server uses the database", async () => {
    const url = await server.createDatabase();
    const store = await openPostgresStore(url, { id: "theirs", dataDirectory: "/theirs" }, hooks);
    try {
      await assert.rejects(copyToPostgres(path, url, INSTALLATION, hooks), /Another server uses the database/);
    } finally {
      await store.close();
    }
    await assert.rejects(
      copyToPostgres(path, url, INSTALLATION),
      /is not empty: it has the rows of the data directory \/theirs/,
    );
  });

  test("leaves nothing when it fails before its end, and a second run does it", async () => {
    const url = await server.createDatabase();
    const faultPoint = (): void => {
      throw new Error("cut off");
    };
    await assert.rejects(copyToPostgres(path, url, INSTALLATION, { faultPoint }), /cut off/);
    const name = new URL(url).pathname.slice(1);
    assert.deepEqual(await server.query("SELECT count(*)::int AS count FROM disks", name), [{ count: 0 }]);
    assert.equal((await copyToPostgres(path, url, INSTALLATION)).wasCopied, false);
    assert.equal((await copyToPostgres(path, url, INSTALLATION)).wasCopied, true);
  });

  for (const [what, sql, table] of [
    ["a changed value", "UPDATE disks SET capacity_bytes = capacity_bytes + 1 WHERE slug = 'volume-1100'", "disks"],
    ["a changed text", `UPDATE events SET detail = '{}' WHERE sequence = 3`, "events"],
    ["a missing row", "DELETE FROM idempotency_keys WHERE key = 'key-1199'", "idempotency_keys"],
    ["a row too many", "INSERT INTO organizations VALUES ('org_z', 'z', 1)", "organizations"],
  ] as const) {
    test(`notices ${what}`, async () => {
      const url = await server.createDatabase();
      await copyToPostgres(path, url, INSTALLATION);
      await server.query(sql, new URL(url).pathname.slice(1));
      await assert.rejects(
        copyToPostgres(path, url, INSTALLATION),
        new RegExp(`differs from the original in the table ${table}`),
      );
    });
  }
});
