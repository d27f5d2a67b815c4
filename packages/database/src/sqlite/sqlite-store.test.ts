import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { storeConformance } from "../conformance.ts";
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
