import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { storeConformance } from "../../testing/conformance.ts";
import { assertOlderRowsAreSettled, OLDER_ROWS } from "../../testing/older-rows.ts";
import { sampleNode } from "../../testing/samples.ts";
import type { AuditEvent } from "../store.ts";
import { markCopied } from "./copied.ts";
import { openSqliteStore } from "./sqlite-store.ts";

storeConformance("SQLite", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  const path = join(directory, "caisson.db");
  let store = openSqliteStore(path);
  const others = new AsyncDisposableStack();
  return {
    store,
    async openSecond() {
      const second = openSqliteStore(path);
      others.defer(() => second.close());
      return second;
    },
    async reopen() {
      await store.close();
      store = openSqliteStore(path);
      return store;
    },
    async dispose() {
      await others.disposeAsync();
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
});

test("what an older program stored is counted, and can be searched after the change of the index", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  try {
    const path = join(directory, "caisson.db");
    const database = new DatabaseSync(path);
    database.exec(await readFile(join(import.meta.dirname, "migrations/0001-initial.sql"), "utf8"));
    database.exec(`
      PRAGMA user_version = 1;
      INSERT INTO organizations VALUES ('org_a', 'a', 0);
      INSERT INTO images (kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, labels, created_at_ms) VALUES
        ('volume', 'vol_1', 'org_a', 'cache', 'ord', 'creating', 1, 0, '{"team":"red"}', 0),
        ('volume', 'vol_2', 'org_a', 'cached-too', 'ord', 'deleted', 1, 0, '{}', 0);
      UPDATE images SET state = 'ready' WHERE id = 'vol_1';`);
    database.close();
    const store = openSqliteStore(path);
    const find = async (query: object) => {
      const disks = await store.disks.list({
        organizationId: "org_a",
        kind: "volume",
        isDeleted: false,
        limit: 9,
        ...query,
      });
      return disks.map(({ slug }) => slug);
    };
    for (const query of [{ search: "c" }, { search: "he" }, { search: "cache" }, { labels: { team: "red" } }]) {
      assert.deepEqual(await find(query), ["cache"]);
    }
    const totals = (await store.disks.totals()).map(({ state, count }) => [state, count]);
    assert.deepEqual(totals, [
      ["deleted", 1],
      ["ready", 1],
    ]);
    await store.disks.restore("vol_2", "cached-too", event("vol_2"));
    assert.deepEqual(await find({ search: "cache" }), ["cached-too", "cache"]);
    await store.close();
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("what a program from before nodes stored belongs to the node of its data directory, whose first run settles it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  try {
    for (const [name, rows] of [
      ["used.db", OLDER_ROWS.replaceAll(/LABEL_WORDS|NO_WORDS/g, "")],
      ["new.db", ""],
    ] as const) {
      const path = join(directory, name);
      const database = new DatabaseSync(path);
      const migrations = join(import.meta.dirname, "migrations");
      for (const file of (await readdir(migrations)).sort().slice(0, 9))
        database.exec(await readFile(join(migrations, file), "utf8"));
      database.exec(`PRAGMA user_version = 9; ${rows}`);
      database.close();
      const store = openSqliteStore(path);
      if (rows === "") assert.deepEqual(await store.nodes.list(), []);
      else await assertOlderRowsAreSettled(store);
      await store.close();
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("a node that joined before its region was kept with it has the one of its token from then on", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  try {
    const path = join(directory, "caisson.db");
    const database = new DatabaseSync(path);
    const migrations = join(import.meta.dirname, "migrations");
    for (const file of (await readdir(migrations)).sort().slice(0, 14))
      database.exec(await readFile(join(migrations, file), "utf8"));
    database.exec(`
      PRAGMA user_version = 14;
      INSERT INTO nodes (id, regions, address, labels, places, generation, lease_until_ms, started_at_ms, seen_at_ms)
        VALUES ('nod_a', '["ord"]', 'a:1', '{}', 0, 1, 0, 0, 0), ('nod_b', '["ord"]', 'b:1', '{}', 0, 1, 0, 0, 0);
      INSERT INTO join_tokens VALUES ('jtk_a', x'01', 'ord', 0, 1, 'a', 'nod_a'), ('jtk_b', x'02', NULL, 0, 1, 'b', 'nod_b');`);
    database.close();
    const store = openSqliteStore(path);
    const begin = (id: string) => store.nodes.begin(sampleNode({ id, regions: ["ams"] }), 60_000);
    await assert.rejects(begin("nod_a"), /a token for region "ord" alone/);
    assert.deepEqual((await begin("nod_b")).regions, ["ams"]);
    await store.close();
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("a commit that fails leaves neither the change nor its line of the trail, and the next one succeeds", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  try {
    let failuresLeft = 0;
    const store = openSqliteStore(join(directory, "caisson.db"), {
      faultPoint: () => {
        if (failuresLeft-- > 0) throw new Error("the disk is full");
      },
    });
    const organization = { id: "org_a", slug: "a", createdAtMs: 0 };
    failuresLeft = 1;
    await assert.rejects(store.organizations.create(organization, event("org_a")), /the disk is full/);
    assert.deepEqual(await store.organizations.list(), []);
    assert.deepEqual(await store.events.list("org_a", null, 10), []);
    await store.organizations.create(organization, event("org_a"));
    assert.equal((await store.events.list("org_a", "org_a", 10)).length, 1);
    failuresLeft = 1;
    const sizes = { allocatedBytes: 1, flattenedBytes: 1, exclusiveBytes: 1 };
    const usage = { ...sizes, inodes: null, usedInodes: null, usageMeasuredAtMs: 1 };
    await assert.rejects(store.disks.setUsage("vol_1", usage), /the disk is full/);
    await store.close();
  } finally {
    await rm(directory, { recursive: true });
  }
});

const event = (objectId: string): AuditEvent => ({
  organizationId: "org_a",
  atMs: 0,
  actor: "server",
  verb: "test",
  objectId,
  outcome: "ok",
  detail: {},
});

test("a database of a newer program is refused instead of being damaged", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  try {
    const path = join(directory, "caisson.db");
    const database = new DatabaseSync(path);
    database.exec("PRAGMA user_version = 999");
    database.close();
    assert.throws(() => openSqliteStore(path), /newer program/);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("a file whose rows were copied away is refused with what to do, and as a newer program's by one that does not know of it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  try {
    const path = join(directory, "caisson.db");
    const store = openSqliteStore(path);
    await store.organizations.create({ id: "org_a", slug: "a", createdAtMs: 0 }, event("org_a"));
    await store.close();
    const withDatabase = <T>(work: (database: DatabaseSync) => T): T => {
      const database = new DatabaseSync(path);
      try {
        return work(database);
      } finally {
        database.close();
      }
    };
    const readVersion = () =>
      withDatabase((database) => Number(database.prepare("PRAGMA user_version").get()?.user_version));
    const version = readVersion();
    for (const _time of ["once", "again"]) {
      markCopied(path);
      assert.equal(readVersion(), 1_000_000 + version);
      const refusal =
        /copied to PostgreSQL .*set "database" to the URL .*installation\.json.*docs\/operate\/postgresql\.md/;
      assert.throws(() => openSqliteStore(path), { code: "INVALID_CONFIG", message: refusal });
    }
    // As the manual says, on purpose.
    withDatabase((database) => database.exec(`PRAGMA user_version = ${version}`));
    const again = openSqliteStore(path);
    assert.equal((await again.organizations.list()).length, 1);
    await again.close();
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("each migration has the number after the one before, so that none is taken for another", async () => {
  const files = (await readdir(join(import.meta.dirname, "migrations"))).sort();
  assert.deepEqual(
    files.map((name) => Number(name.slice(0, 4))),
    files.map((_, index) => index + 1),
  );
});
