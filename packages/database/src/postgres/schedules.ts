import { toDisk, toScheduleTotals } from "../records.ts";
import { diskNotFound, slugTaken } from "../refusals.ts";
import { DUE, LATE_PERIODS, STATE_AT_MS, THINNABLE } from "../schedule-conditions.ts";
import type { Disk, DiskStore } from "../store.ts";
import type { Database, Queries, Value } from "./database.ts";
import { changeWithEvent, writeEvent } from "./events.ts";
import { isViolation } from "./failures.ts";
import { insertDisk } from "./insert-disk.ts";
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
export function createScheduleStore(database: Database): ScheduleStore {
  const readDisks = async (sql: string, ...values: readonly Value[]): Promise<readonly Disk[]> =>
    (await database.read((queries) => queries.all(sql, ...values))).map(toDisk);

  return {
    setSchedule(id, everyMs, nowMs, event) {
      return database.transaction(async (queries) => {
        const changed = await queries.run(
          `UPDATE disks SET every_ms = $1::bigint, scheduled_at_ms = CASE WHEN $1::bigint IS NULL THEN NULL ELSE $2::bigint END, schedule_detail = '{}'
           WHERE id = $3 AND kind = 'volume' AND state = 'ready' AND every_ms IS DISTINCT FROM $1::bigint`,
          everyMs,
          nowMs,
          id,
        );
        const found = "SELECT * FROM disks WHERE id = $1 AND kind = 'volume' AND state = 'ready'";
        const row = await queries.get(found, id);
        if (row === undefined) throw diskNotFound("volume", id);
        if (changed > 0) await writeEvent(queries, event);
        return toDisk(row);
      });
    },

    listScheduled(nodeId, regions, nowMs, limit) {
      return readDisks(
        `SELECT * FROM disks WHERE every_ms IS NOT NULL AND node_id = $1 AND state = 'ready' AND lost_at_ms IS NULL AND region = ANY ($2)
           AND ${DUE("$3::bigint")} ORDER BY scheduled_at_ms LIMIT $4`,
        nodeId,
        regions,
        nowMs,
        limit,
      );
    },

    async reserveScheduled(snapshot, isReplicated) {
      try {
        return await database.transaction(async (queries) => {
          await requireLatest(queries, snapshot.owner);
          // A commit of another snapshot of the schedule changes this row too: it is over, or comes after.
          const due = await queries.get(
            `SELECT 1 FROM disks WHERE id = $1 AND state = 'ready' AND every_ms IS NOT NULL AND ${DUE("$2::bigint")} FOR NO KEY UPDATE`,
            snapshot.parent?.id ?? "",
            snapshot.createdAtMs,
          );
          if (due === undefined) return false;
          await insertDisk(queries, snapshot, snapshot.owner, { isReplicated });
          return true;
        });
      } catch (error) {
        if (isViolation(error, "disks_automatic_once")) return false;
        throw isViolation(error, "disks_slug") ? slugTaken(snapshot.slug, error) : error;
      }
    },

    async failScheduled(volumeId, error, retryAtMs) {
      await database.transaction((queries) =>
        queries.run(
          `UPDATE disks SET scheduled_at_ms = $1,
             schedule_detail = json_build_object('error', $2::text, 'attempts', coalesce((schedule_detail ->> 'attempts')::integer, 0) + 1)
           WHERE id = $3 AND every_ms IS NOT NULL`,
          retryAtMs,
          error,
          volumeId,
        ),
      );
    },

    async listThinnable(after, limit) {
      const sql =
        "SELECT DISTINCT parent_id FROM disks WHERE is_automatic AND state = 'ready' AND parent_id > $1 ORDER BY parent_id LIMIT $2";
      return (await database.read((queries) => queries.all(sql, after, limit))).map((row) => String(row.parent_id));
    },

    listSnapshots(volumeId) {
      return readDisks(
        "SELECT * FROM disks WHERE parent_id = $1 AND kind = 'snapshot' AND state = 'ready' ORDER BY sequence",
        volumeId,
      );
    },

    thin(id, nowMs, event) {
      return database.transaction(async (queries) => {
        // What is just being made from it is there, or comes after: a statement that waits for a row does not see what others have added meanwhile.
        await queries.get("SELECT 1 FROM disks WHERE id = $1 FOR NO KEY UPDATE", id);
        const sql = `UPDATE disks SET state = 'deleted', deleted_at_ms = $1, purge_at_ms = $1 WHERE id = $2 AND is_automatic AND ${THINNABLE}`;
        return (await changeWithEvent(queries, sql, [nowMs, id], event)) !== undefined;
      });
    },

    async replicatedStates(volumeIds) {
      const rows = await database.read((queries) =>
        queries.all(
          `SELECT parent_id, max(created_at_ms) AS at_ms FROM disks WHERE parent_id = ANY ($1)
             AND kind = 'snapshot' AND state = 'ready' AND replication_state = 'replicated' GROUP BY parent_id`,
          volumeIds,
        ),
      );
      return new Map(rows.map((row) => [String(row.parent_id), Number(row.at_ms)]));
    },

    async scheduleTotals(nowMs) {
      const row = await database.read((queries) =>
        queries.get(
          `SELECT count(*) AS volumes, count(*) FILTER (WHERE is_failing) AS failing,
             count(*) FILTER (WHERE state_at_ms < $1::bigint - ${LATE_PERIODS} * every_ms) AS late, min(state_at_ms) AS oldest_ms
           FROM (SELECT every_ms, schedule_detail::text <> '{}' AS is_failing, ${STATE_AT_MS} AS state_at_ms
                 FROM disks WHERE every_ms IS NOT NULL AND state = 'ready' AND lost_at_ms IS NULL) AS scheduled`,
          nowMs,
        ),
      );
      return toScheduleTotals(row);
    },
  };
}

/** In the transaction that commits a snapshot: says when the next one of its schedule is due, and takes over the turn of the newest one that waits for its upload. False: it changed nothing of this disk. */
export async function finishScheduled(queries: Queries, snapshot: Disk): Promise<boolean> {
  const { id, parent, isAutomatic, replication, createdAtMs } = snapshot;
  if (!isAutomatic || parent === null) return false;
  const next =
    "UPDATE disks SET scheduled_at_ms = $1::bigint + every_ms, schedule_detail = '{}' WHERE id = $2 AND every_ms IS NOT NULL";
  await queries.run(next, createdAtMs, parent.id);
  if (replication.state !== "uploading") return false;
  const waiting = await queries.get(
    `SELECT id FROM disks WHERE is_automatic AND parent_id = $1 AND id <> $2 AND state = 'ready' AND replication_state IN ('uploading', 'failed')
     ORDER BY sequence DESC LIMIT 1 FOR NO KEY UPDATE`,
    parent.id,
    id,
  );
  if (waiting === undefined) return false;
  await queries.run(
    `UPDATE disks SET (replication_state, replication_retry_at_ms, replication_detail) =
       (SELECT replication_state, replication_retry_at_ms, replication_detail FROM disks WHERE id = $1) WHERE id = $2`,
    String(waiting.id),
    id,
  );
  await queries.run("UPDATE disks SET replication_state = 'local' WHERE id = $1", String(waiting.id));
  return true;
}
