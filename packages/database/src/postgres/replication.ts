import { toDisk } from "../records.ts";
import { diskNotFound } from "../refusals.ts";
import { NEXT_IN_TURN } from "../schedule-conditions.ts";
import type { DiskStore } from "../store.ts";
import type { Database } from "./database.ts";
import { changeWithEvent, writeEvent } from "./events.ts";

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
export function createReplicationStore(database: Database): ReplicationStore {
  return {
    requestReplication(id, nowMs, event) {
      return database.transaction(async (queries) => {
        await queries.run("UPDATE disks SET is_automatic = FALSE WHERE id = $1 AND is_automatic", id);
        const sql = `UPDATE disks SET replication_state = 'uploading', replication_retry_at_ms = $1, replication_detail = '{}'
          WHERE id = $2 AND kind = 'snapshot' AND state = 'ready' AND replication_state IN ('local', 'failed')`;
        const changed = await queries.run(sql, nowMs, id);
        const found = "SELECT * FROM disks WHERE id = $1 AND kind = 'snapshot' AND state = 'ready'";
        const row = await queries.get(found, id);
        if (row === undefined) throw diskNotFound("snapshot", id);
        if (changed > 0 && event !== null) await writeEvent(queries, event);
        return toDisk(row);
      });
    },

    requestReplications(nodeId, region, which, nowMs) {
      return database.transaction((queries) =>
        queries.run(
          `UPDATE disks SET replication_state = 'uploading', replication_retry_at_ms = $1
           WHERE replication_state = 'local' AND kind = 'snapshot' AND node_id = $2 AND region = $3 AND state = 'ready' AND NOT is_automatic
             AND ($4 OR labels ->> 'replicate' = 'true')`,
          nowMs,
          nodeId,
          region,
          which === "all",
        ),
      );
    },

    async listDueReplications(nodeId, regions, nowMs, limit) {
      const rows = await database.read((queries) =>
        queries.all(
          `SELECT * FROM disks WHERE ${REPLICATING} AND node_id = $1 AND replication_retry_at_ms <= $2 AND state = 'ready' AND region = ANY ($3)
           ORDER BY replication_retry_at_ms LIMIT $4`,
          nodeId,
          nowMs,
          regions,
          limit,
        ),
      );
      return rows.map(toDisk);
    },

    async finishReplication(id, result, nowMs, event) {
      await database.transaction(async (queries) => {
        const sql = `UPDATE disks SET replication_state = 'replicated', replication_at_ms = $1, replication_retry_at_ms = NULL, replication_detail = $2
          WHERE id = $3 AND state IN ('ready', 'deleted') AND ${MAY_BE_UPLOADING}`;
        if ((await changeWithEvent(queries, sql, [nowMs, JSON.stringify({ result }), id], event)) !== undefined) return;
        const found =
          "SELECT id FROM disks WHERE id = $1 AND state IN ('ready', 'deleted') AND replication_state = 'replicated'";
        if ((await queries.get(found, id)) === undefined) throw diskNotFound("snapshot", id);
      });
    },

    async renewReplication(id, nowMs, event) {
      const sql = `UPDATE disks SET replication_state = 'uploading', replication_at_ms = NULL, replication_retry_at_ms = $1, replication_detail = '{}'
        WHERE id = $2 AND lost_at_ms IS NULL AND state IN ('ready', 'deleted') AND replication_state = 'replicated'`;
      return (await database.transaction((queries) => changeWithEvent(queries, sql, [nowMs, id], event))) !== undefined;
    },

    async replicaBefore(snapshotId) {
      const row = await database.read((queries) =>
        queries.get(
          `SELECT base.* FROM disks AS base, disks AS own WHERE own.id = $1 AND base.parent_id = own.parent_id AND base.kind = 'snapshot'
             AND base.state = 'ready' AND base.replication_state = 'replicated' AND base.node_id = own.node_id AND base.sequence < own.sequence
             ORDER BY base.created_at_ms DESC, base.sequence DESC LIMIT 1`,
          snapshotId,
        ),
      );
      return row === undefined ? null : toDisk(row);
    },

    async failReplication(id, error, retryAtMs) {
      await database.transaction(async (queries) => {
        // A commit of another snapshot of the schedule changes this row too: it is over, or comes after.
        await queries.get(
          "SELECT 1 FROM disks WHERE id = (SELECT parent_id FROM disks WHERE id = $1) FOR NO KEY UPDATE",
          id,
        );
        await queries.run(
          `UPDATE disks SET replication_state = 'failed', replication_retry_at_ms = $1,
             replication_detail = json_build_object('error', $2::text, 'attempts', coalesce((replication_detail ->> 'attempts')::integer, 0) + 1)
           WHERE id = coalesce((${NEXT_IN_TURN("$3")}), $3) AND ${REPLICATING}`,
          retryAtMs,
          error,
          id,
        );
      });
    },
  };
}
