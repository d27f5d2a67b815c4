import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { storeConformance } from "../../testing/conformance.ts";
import { openSqliteStore } from "./sqlite-store.ts";

storeConformance("SQLite", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
  const path = join(directory, "caisson.db");
  let store = openSqliteStore(path);
  return {
    store,
    async reopen() {
      await store.close();
      store = openSqliteStore(path);
      return store;
    },
    async dispose() {
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
});

test("what an older program stored can be searched after the change of the index", async () => {
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
    await store.disks.restore("vol_2", "cached-too");
    assert.deepEqual(await find({ search: "cache" }), ["cached-too", "cache"]);
    await store.close();
  } finally {
    await rm(directory, { recursive: true });
  }
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
