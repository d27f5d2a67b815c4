import { toDisk, toScheduleTotals } from "../records.ts";
import { diskNotFound, slugTaken } from "../refusals.ts";
import { DUE, LATE_PERIODS, STATE_AT_MS, THINNABLE } from "../schedule-conditions.ts";
import type { Disk, DiskStore } from "../store.ts";
import { type Connection, isUniqueViolation } from "./connection.ts";
import { writeEvent } from "./events.ts";
import type { InsertDisk } from "./insert-disk.ts";
import { requireLatest } from "./nodes.ts";

type ScheduleStore = Pick<
  DiskStore,
  | "setSchedule"
  | "listScheduled"
  | "reserveScheduled"
  | "failScheduled"
  | "listThinnable"
  | "listSnapshots"
  | "thin"
  | "replicatedStates"
  | "scheduleTotals"
>;

/** What the rows say of snapshots that the server makes by itself. */
export function createScheduleStore(connection: Connection, insert: InsertDisk): ScheduleStore {
  return {
    async setSchedule(id, everyMs, nowMs, event) {
      return connection.transaction(() => {
        const changed = connection.run(
          `UPDATE disks SET every_ms = ?, scheduled_at_ms = iif(? IS NULL, NULL, ?), schedule_detail = '{}'
           WHERE id = ? AND kind = 'volume' AND state = 'ready' AND every_ms IS NOT ?`,
          ...[everyMs, everyMs, nowMs, id, everyMs],
        );
        const row = connection.get("SELECT * FROM disks WHERE id = ? AND kind = 'volume' AND state = 'ready'", id);
        if (row === undefined) throw diskNotFound("volume", id);
        if (changed > 0) writeEvent(connection, event);
        return toDisk(row);
      });
    },

    async listScheduled(nodeId, regions, nowMs, limit) {
      return connection
        .all(
          `SELECT * FROM disks WHERE every_ms IS NOT NULL AND node_id = ? AND state = 'ready' AND lost_at_ms IS NULL
             AND region IN (SELECT value FROM json_each(?)) AND ${DUE("?")} ORDER BY scheduled_at_ms LIMIT ?`,
          ...[nodeId, JSON.stringify(regions), nowMs, nowMs, limit],
        )
        .map(toDisk);
    },

    async reserveScheduled(snapshot, isReplicated) {
      const { owner, createdAtMs } = snapshot;
      try {
        return connection.transaction(() => {
          requireLatest(connection, owner);
          const due = connection.get(
            `SELECT 1 FROM disks WHERE id = ? AND state = 'ready' AND every_ms IS NOT NULL AND ${DUE("?")}`,
            ...[snapshot.parent?.id ?? "", createdAtMs, createdAtMs],
          );
          if (due === undefined) return false;
          insert(snapshot, owner, { isReplicated });
          return true;
        });
      } catch (error) {
        if (isUniqueViolation(error, "disks.parent_id")) return false;
        throw isUniqueViolation(error, "disks.slug") ? slugTaken(snapshot.slug, error) : error;
      }
    },

    async failScheduled(volumeId, error, retryAtMs) {
      connection.run(
        `UPDATE disks SET scheduled_at_ms = ?,
           schedule_detail = json_object('error', ?, 'attempts', coalesce(json_extract(schedule_detail, '$.attempts'), 0) + 1)
         WHERE id = ? AND every_ms IS NOT NULL`,
        ...[retryAtMs, error, volumeId],
      );
    },

    async listThinnable(after, limit) {
      return connection
        .all(
          "SELECT DISTINCT parent_id FROM disks WHERE is_automatic = 1 AND state = 'ready' AND parent_id > ? ORDER BY parent_id LIMIT ?",
          ...[after, limit],
        )
        .map((row) => String(row.parent_id));
    },

    async listSnapshots(volumeId) {
      return connection
        .all(
          "SELECT * FROM disks WHERE parent_id = ? AND kind = 'snapshot' AND state = 'ready' ORDER BY sequence",
          volumeId,
        )
        .map(toDisk);
    },

    async thin(id, nowMs, event) {
      return connection.transaction(() => {
        const changed = connection.run(
          `UPDATE disks SET state = 'deleted', deleted_at_ms = ?, purge_at_ms = ? WHERE id = ? AND is_automatic = 1 AND ${THINNABLE}`,
          ...[nowMs, nowMs, id],
        );
        if (changed > 0) writeEvent(connection, event);
        return changed > 0;
      });
    },

    async replicatedStates(volumeIds) {
      const rows = connection.all(
        `SELECT parent_id, max(created_at_ms) AS at_ms FROM disks WHERE parent_id IN (SELECT value FROM json_each(?))
           AND kind = 'snapshot' AND state = 'ready' AND replication_state = 'replicated' GROUP BY parent_id`,
        JSON.stringify(volumeIds),
      );
      return new Map(rows.map((row) => [String(row.parent_id), Number(row.at_ms)]));
    },

    async scheduleTotals(nowMs) {
      return toScheduleTotals(
        connection.get(
          `SELECT count(*) AS volumes, count(*) FILTER (WHERE is_failing) AS failing,
             count(*) FILTER (WHERE state_at_ms < ? - ${LATE_PERIODS} * every_ms) AS late, min(state_at_ms) AS oldest_ms
           FROM (SELECT every_ms, schedule_detail <> '{}' AS is_failing, ${STATE_AT_MS} AS state_at_ms
                 FROM disks WHERE every_ms IS NOT NULL AND state = 'ready' AND lost_at_ms IS NULL)`,
          nowMs,
        ),
      );
    },
  };
}

/** In the transaction that commits a snapshot: says when the next one of its schedule is due, and takes over the turn of the newest one that waits for its upload. Of another disk it does nothing. */
export function finishScheduled(connection: Connection, snapshot: Disk): void {
  const { id, parent, isAutomatic, replication, createdAtMs } = snapshot;
  if (!isAutomatic || parent === null) return;
  connection.run(
    "UPDATE disks SET scheduled_at_ms = ? + every_ms, schedule_detail = '{}' WHERE id = ? AND every_ms IS NOT NULL",
    ...[createdAtMs, parent.id],
  );
  if (replication.state !== "uploading") return;
  const waiting = connection.get(
    `SELECT id FROM disks WHERE is_automatic = 1 AND parent_id = ? AND id <> ? AND state = 'ready' AND replication_state IN ('uploading', 'failed')
     ORDER BY sequence DESC LIMIT 1`,
    ...[parent.id, id],
  );
  if (waiting === undefined) return;
  connection.run(
    `UPDATE disks SET (replication_state, replication_retry_at_ms, replication_detail) =
       (SELECT replication_state, replication_retry_at_ms, replication_detail FROM disks WHERE id = ?) WHERE id = ?`,
    ...[String(waiting.id), id],
  );
  connection.run("UPDATE disks SET replication_state = 'local' WHERE id = ?", String(waiting.id));
}
