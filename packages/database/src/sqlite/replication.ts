import { toDisk } from "../records.ts";
import { diskNotFound } from "../refusals.ts";
import { NEXT_IN_TURN } from "../schedule-conditions.ts";
import type { DiskStore } from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";

type ReplicationStore = Pick<
  DiskStore,
  | "requestReplication"
  | "requestReplications"
  | "listDueReplications"
  | "finishReplication"
  | "failReplication"
  | "replicaBefore"
  | "renewReplication"
>;

/** The condition of the partial index `disks_replicating`. */
const REPLICATING = "replication_state IN ('uploading', 'failed')";
/** Whether an upload may be under way: also one of a schedule whose turn a later snapshot has taken over. */
const MAY_BE_UPLOADING = `(${REPLICATING} OR (replication_state = 'local' AND replication_retry_at_ms IS NOT NULL))`;

/** What the rows of snapshots say of the snapshot store. */
export function createReplicationStore(connection: Connection): ReplicationStore {
  return {
    async requestReplication(id, nowMs, event) {
      return connection.transaction(() => {
        connection.run("UPDATE disks SET is_automatic = 0 WHERE id = ? AND is_automatic = 1", id);
        const changed = connection.run(
          `UPDATE disks SET replication_state = 'uploading', replication_retry_at_ms = ?, replication_detail = '{}'
           WHERE id = ? AND kind = 'snapshot' AND state = 'ready' AND replication_state IN ('local', 'failed')`,
          nowMs,
          id,
        );
        const row = connection.get("SELECT * FROM disks WHERE id = ? AND kind = 'snapshot' AND state = 'ready'", id);
        if (row === undefined) throw diskNotFound("snapshot", id);
        if (changed > 0 && event !== null) writeEvent(connection, event);
        return toDisk(row);
      });
    },

    async requestReplications(nodeId, region, which, nowMs) {
      return connection.run(
        `UPDATE disks SET replication_state = 'uploading', replication_retry_at_ms = ?
         WHERE replication_state = 'local' AND kind = 'snapshot' AND node_id = ? AND region = ? AND state = 'ready' AND is_automatic = 0
           AND (? = 'all' OR json_extract(labels, '$.replicate') = 'true')`,
        nowMs,
        nodeId,
        region,
        which,
      );
    },

    async listDueReplications(nodeId, regions, nowMs, limit) {
      return connection
        .all(
          `SELECT * FROM disks WHERE ${REPLICATING} AND node_id = ? AND replication_retry_at_ms <= ? AND state = 'ready'
             AND region IN (SELECT value FROM json_each(?)) ORDER BY replication_retry_at_ms LIMIT ?`,
          nodeId,
          nowMs,
          JSON.stringify(regions),
          limit,
        )
        .map(toDisk);
    },

    async finishReplication(id, result, nowMs, event) {
      connection.transaction(() => {
        const changed = connection.run(
          `UPDATE disks SET replication_state = 'replicated', replication_at_ms = ?, replication_retry_at_ms = NULL, replication_detail = ?
           WHERE id = ? AND state IN ('ready', 'deleted') AND ${MAY_BE_UPLOADING}`,
          nowMs,
          JSON.stringify({ result }),
          id,
        );
        if (changed > 0) return writeEvent(connection, event);
        const sql =
          "SELECT id FROM disks WHERE id = ? AND state IN ('ready', 'deleted') AND replication_state = 'replicated'";
        if (connection.get(sql, id) === undefined) throw diskNotFound("snapshot", id);
      });
    },

    async renewReplication(id, nowMs, event) {
      return connection.transaction(() => {
        const changed = connection.run(
          `UPDATE disks SET replication_state = 'uploading', replication_at_ms = NULL, replication_retry_at_ms = ?, replication_detail = '{}'
           WHERE id = ? AND lost_at_ms IS NULL AND state IN ('ready', 'deleted') AND replication_state = 'replicated'`,
          nowMs,
          id,
        );
        if (changed > 0) writeEvent(connection, event);
        return changed > 0;
      });
    },

    async replicaBefore(snapshotId) {
      const row = connection.get(
        `SELECT base.* FROM disks AS base, disks AS own WHERE own.id = ? AND base.parent_id = own.parent_id AND base.kind = 'snapshot'
             AND base.state = 'ready' AND base.replication_state = 'replicated' AND base.node_id = own.node_id AND base.sequence < own.sequence
             ORDER BY base.created_at_ms DESC, base.sequence DESC LIMIT 1`,
        snapshotId,
      );
      return row === undefined ? null : toDisk(row);
    },

    async failReplication(id, error, retryAtMs) {
      connection.run(
        `UPDATE disks SET replication_state = 'failed', replication_retry_at_ms = ?,
           replication_detail = json_object('error', ?, 'attempts', coalesce(json_extract(replication_detail, '$.attempts'), 0) + 1)
         WHERE id = coalesce((${NEXT_IN_TURN("?")}), ?) AND ${REPLICATING}`,
        retryAtMs,
        error,
        id,
        id,
      );
    },
  };
}
