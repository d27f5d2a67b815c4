import { toDisk, toNodeLoss } from "../records.ts";
import { diskNotFound, nodeNotFound } from "../refusals.ts";
import type { Disk, DiskStore } from "../store.ts";
import type { Database } from "./database.ts";
import { writeEvent } from "./events.ts";
import { requireLatest } from "./nodes.ts";

type LostDiskStore = Pick<DiskStore, "lossOf" | "lose" | "beginPurgeLost" | "beginPurgeLostOf" | "rehome">;

/** What another node takes over, because it lies in a pool that the node has shared. The first character after the region says the class of a disk. */
const IS_SHARED = `(substr(disks.id, 6 + length(disks.region), 1) = 'o'
  AND (SELECT shared_pools -> disks.region FROM nodes WHERE nodes.id = disks.node_id) IS NOT NULL)`;

/** What the rows say of disks whose node was given up. */
export function createLostDiskStore(database: Database): LostDiskStore {
  return {
    lossOf(nodeId, nameLimit) {
      return database.read(async (queries) => {
        const counts = await queries.get(
          `SELECT count(*) FILTER (WHERE kind = 'volume') AS volumes,
             count(*) FILTER (WHERE kind = 'snapshot' AND replication_state <> 'replicated') AS snapshots,
             count(*) FILTER (WHERE kind = 'snapshot' AND replication_state = 'replicated') AS replicated_snapshots,
             (SELECT count(*) FROM sandboxes WHERE node_id = $1 AND status <> 'stopped') AS sandboxes
           FROM disks WHERE node_id = $1 AND state IN ('ready', 'deleted') AND NOT ${IS_SHARED}`,
          nodeId,
        );
        const names = await queries.all(
          `SELECT organizations.slug AS organization, disks.slug FROM disks JOIN organizations ON organizations.id = organization_id
           WHERE node_id = $1 AND kind = 'volume' AND state IN ('ready', 'deleted') AND NOT ${IS_SHARED} ORDER BY sequence LIMIT $2`,
          nodeId,
          nameLimit,
        );
        return toNodeLoss(counts, names);
      });
    },

    lose(nodeId, { nowMs, purgeAtMs, afterSequence, limit }, eventOf) {
      return database.transaction(async (queries) => {
        const node = await queries.get("SELECT FROM nodes WHERE id = $1 AND lost_at_ms IS NOT NULL FOR SHARE", nodeId);
        if (node === undefined) throw nodeNotFound(nodeId);
        const found = await queries.all(
          `SELECT * FROM disks WHERE node_id = $1 AND lost_at_ms IS NULL AND sequence > $2 AND NOT ${IS_SHARED} ORDER BY sequence LIMIT $3 FOR NO KEY UPDATE`,
          nodeId,
          afterSequence,
          limit,
        );
        const lost: Disk[] = [];
        for (const { id, state } of found.map(toDisk)) {
          if (state === "creating") await queries.run("DELETE FROM idempotency_keys WHERE object_id = $1", id);
          const row = await queries.get(
            `UPDATE disks SET lost_at_ms = $1, grow_to_bytes = NULL, state = CASE state WHEN 'creating' THEN 'purging' ELSE state END,
               purge_at_ms = CASE WHEN state = 'ready' AND replication_state <> 'replicated' THEN $2::bigint ELSE purge_at_ms END
             WHERE id = $3 RETURNING *`,
            nowMs,
            purgeAtMs,
            id,
          );
          const disk = toDisk(row ?? {});
          if (disk.state !== "purging") await writeEvent(queries, eventOf(disk));
          lost.push(disk);
        }
        return lost;
      });
    },

    beginPurgeLost(nowMs) {
      return database.transaction(async (queries) => {
        await queries.run(
          `UPDATE disks SET state = 'purging' WHERE lost_at_ms IS NOT NULL AND purge_at_ms <= $1
             AND (state = 'deleted' OR (state = 'ready' AND replication_state <> 'replicated'))`,
          nowMs,
        );
        const sql = "SELECT * FROM disks WHERE lost_at_ms IS NOT NULL AND state = 'purging' ORDER BY sequence";
        return (await queries.all(sql)).map(toDisk);
      });
    },

    beginPurgeLostOf(id) {
      return database.transaction(async (queries) => {
        await queries.run(
          "UPDATE disks SET state = 'purging' WHERE id = $1 AND state = 'deleted' AND lost_at_ms IS NOT NULL",
          id,
        );
        const sql = "SELECT * FROM disks WHERE id = $1 AND state = 'purging' AND lost_at_ms IS NOT NULL";
        const row = await queries.get(sql, id);
        return row === undefined ? null : toDisk(row);
      });
    },

    rehome(id, owner) {
      return database.transaction(async (queries) => {
        await requireLatest(queries, owner);
        await queries.run(
          `UPDATE disks SET node_id = $1, node_generation = $2, lost_at_ms = NULL, purge_at_ms = NULL
           WHERE id = $3 AND lost_at_ms IS NOT NULL AND state = 'ready' AND replication_state = 'replicated'`,
          owner.nodeId,
          owner.generation,
          id,
        );
        const row = await queries.get("SELECT * FROM disks WHERE id = $1 AND state = 'ready'", id);
        if (row === undefined) throw diskNotFound("snapshot", id);
        return toDisk(row);
      });
    },
  };
}
