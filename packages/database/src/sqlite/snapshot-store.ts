import { toKeyRotationColumn, toSnapshotStoreRecord, toUploadTotals } from "../records.ts";
import type { SnapshotStoreRows } from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";

export function createSnapshotStoreRows(connection: Connection): SnapshotStoreRows {
  const remember = (changes: Parameters<SnapshotStoreRows["remember"]>[0]): void => {
    const { keyFingerprint, storeId, marks, keyRotation } = changes;
    connection.run(
      `INSERT INTO snapshot_store (only_row, key_fingerprint, store_id, marks, key_rotation) VALUES (1, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET key_fingerprint = coalesce(excluded.key_fingerprint, key_fingerprint),
         store_id = coalesce(excluded.store_id, store_id), marks = CASE WHEN ? THEN marks ELSE excluded.marks END,
         key_rotation = CASE WHEN ? THEN key_rotation ELSE excluded.key_rotation END`,
      keyFingerprint ?? null,
      storeId ?? null,
      JSON.stringify(marks ?? []),
      toKeyRotationColumn(keyRotation),
      marks === undefined ? 1 : 0,
      keyRotation === undefined ? 1 : 0,
    );
  };
  return {
    async get() {
      return toSnapshotStoreRecord(connection.get("SELECT * FROM snapshot_store"));
    },

    async remember(changes, event = null) {
      connection.transaction(() => {
        remember(changes);
        if (event !== null) writeEvent(connection, event);
      });
    },

    async countReplicas() {
      return Number(
        connection.get("SELECT count(*) AS replicas FROM disks WHERE replication_state = 'replicated'")?.replicas,
      );
    },

    async uploadTotals() {
      return toUploadTotals(
        connection.get(
          `SELECT count(*) AS waiting, count(*) FILTER (WHERE replication_state = 'failed') AS failing, min(created_at_ms) AS oldest_ms
           FROM disks WHERE replication_state IN ('uploading', 'failed') AND state = 'ready'`,
        ),
      );
    },

    async accept(changes, nowMs, event) {
      return connection.transaction(() => {
        remember(changes);
        writeEvent(connection, event);
        return connection.run(
          `UPDATE disks SET replication_state = 'uploading', replication_at_ms = NULL, replication_retry_at_ms = ?, replication_detail = '{}'
           WHERE replication_state = 'replicated' AND lost_at_ms IS NULL`,
          nowMs,
        );
      });
    },
  };
}
