import { toKeyRotationColumn, toSnapshotStoreRecord, toUploadTotals } from "../records.ts";
import type { SnapshotStoreRows } from "../store.ts";
import type { Database, Queries } from "./database.ts";
import { writeEvent } from "./events.ts";

export function createSnapshotStoreRows(database: Database): SnapshotStoreRows {
  const remember = (
    queries: Queries,
    { keyFingerprint, storeId, marks, keyRotation }: Parameters<SnapshotStoreRows["remember"]>[0],
  ): Promise<unknown> =>
    queries.run(
      `INSERT INTO snapshot_store AS kept (only_row, key_fingerprint, store_id, marks, key_rotation) VALUES (1, $1, $2, $3, $5)
       ON CONFLICT (only_row) DO UPDATE SET key_fingerprint = coalesce(excluded.key_fingerprint, kept.key_fingerprint),
         store_id = coalesce(excluded.store_id, kept.store_id), marks = CASE WHEN $4 THEN kept.marks ELSE excluded.marks END,
         key_rotation = CASE WHEN $6 THEN kept.key_rotation ELSE excluded.key_rotation END`,
      keyFingerprint ?? null,
      storeId ?? null,
      JSON.stringify(marks ?? []),
      marks === undefined,
      toKeyRotationColumn(keyRotation),
      keyRotation === undefined,
    );
  return {
    async get() {
      return toSnapshotStoreRecord(await database.read((queries) => queries.get("SELECT * FROM snapshot_store")));
    },

    async remember(changes, event = null) {
      await database.transaction(async (queries) => {
        await remember(queries, changes);
        if (event !== null) await writeEvent(queries, event);
      });
    },

    async countReplicas() {
      const sql = "SELECT count(*) AS replicas FROM disks WHERE replication_state = 'replicated'";
      return Number((await database.read((queries) => queries.get(sql)))?.replicas);
    },

    async uploadTotals() {
      const sql = `SELECT count(*) AS waiting, count(*) FILTER (WHERE replication_state = 'failed') AS failing, min(created_at_ms) AS oldest_ms
        FROM disks WHERE replication_state IN ('uploading', 'failed') AND state = 'ready'`;
      return toUploadTotals(await database.read((queries) => queries.get(sql)));
    },

    accept(changes, nowMs, event) {
      return database.transaction(async (queries) => {
        await remember(queries, changes);
        await writeEvent(queries, event);
        return queries.run(
          `UPDATE disks SET replication_state = 'uploading', replication_at_ms = NULL, replication_retry_at_ms = $1, replication_detail = '{}'
           WHERE replication_state = 'replicated' AND lost_at_ms IS NULL`,
          nowMs,
        );
      });
    },
  };
}
