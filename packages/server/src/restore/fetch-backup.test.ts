import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { describeBackup, openSqliteStore } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { CHUNK_BYTES, type SnapshotStore } from "@caisson/snapshot-store";
import { fetchBackup } from "./fetch-backup.ts";

const SIGNAL = new AbortController().signal;

suite("of the backups in a store", () => {
  let directory: string;
  let rows: Buffer;
  let described: ReturnType<typeof describeBackup>;
  const path = () => join(directory, "fetched.db");
  /** A store with two backups: what the newer one gives, and rows that can be read. */
  const storeOf = (openNewer: () => object): SnapshotStore => {
    const backups = {
      list: async () => ["newer", "older"].map((id, index) => ({ id, atMs: 2 - index, isAutomatic: true })),
      open: async (id: string) => (id === "newer" ? openNewer() : opened(rows)),
    };
    return { backups } as unknown as SnapshotStore;
  };
  const opened = (bytes: Buffer) => ({
    manifest: { ...described, sizeBytes: bytes.length },
    async *chunks() {
      for (let index = 0; index * CHUNK_BYTES < bytes.length; index += 1)
        yield { index, bytes: bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES) };
    },
  });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-fetch-backup-"));
    const store = openSqliteStore(join(directory, "rows.db"));
    await store.backup(join(directory, "copy.db"));
    await store.close();
    described = describeBackup(join(directory, "copy.db"));
    rows = await readFile(join(directory, "copy.db"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("one that a newer program made is not passed over for an older one, unless that is named", async () => {
    const store = storeOf(() => {
      throw new CaissonError("NOT_SUPPORTED", "it has version 2");
    });
    await assert.rejects(fetchBackup(store, null, path(), SIGNAL), { code: "NOT_SUPPORTED" });
    assert.equal((await fetchBackup(store, "older", path(), SIGNAL)).id, "older");
  });

  test("one whose rows SQLite cannot read is passed over, and told", async () => {
    const store = storeOf(() => opened(Buffer.from(rows).fill(7, 0, 100)));
    const { id, skipped } = await fetchBackup(store, null, path(), SIGNAL);
    assert.equal(id, "older");
    assert.match(skipped[0]?.problem ?? "", /backup newer: its rows cannot be read/);
    assert.deepEqual(await readFile(path()), rows);
  });
});
