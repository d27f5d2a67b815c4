import { toDisk, toNodeLoss } from "../records.ts";
import { diskNotFound, nodeNotFound } from "../refusals.ts";
import type { DiskStore } from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";
import { requireLatest } from "./nodes.ts";

type LostDiskStore = Pick<DiskStore, "lossOf" | "lose" | "beginPurgeLost" | "beginPurgeLostOf" | "rehome">;

/** What another node takes over, because it lies in a pool that the node has shared. The first character after the region says the class of a disk. */
const IS_SHARED = `(substr(disks.id, 6 + length(disks.region), 1) = 'o'
  AND (SELECT json_extract(shared_pools, '$.' || disks.region) FROM nodes WHERE nodes.id = disks.node_id) IS NOT NULL)`;

/** What the rows say of disks whose node was given up. */
export function createLostDiskStore(connection: Connection): LostDiskStore {
  return {
    async lossOf(nodeId, nameLimit) {
      const counts = connection.get(
        `SELECT count(*) FILTER (WHERE kind = 'volume') AS volumes,
           count(*) FILTER (WHERE kind = 'snapshot' AND replication_state <> 'replicated') AS snapshots,
           count(*) FILTER (WHERE kind = 'snapshot' AND replication_state = 'replicated') AS replicated_snapshots,
           (SELECT count(*) FROM sandboxes WHERE node_id = ? AND status <> 'stopped') AS sandboxes
         FROM disks WHERE node_id = ? AND state IN ('ready', 'deleted') AND NOT ${IS_SHARED}`,
        nodeId,
        nodeId,
      );
      const names = connection.all(
        `SELECT organizations.slug AS organization, disks.slug FROM disks JOIN organizations ON organizations.id = organization_id
         WHERE node_id = ? AND kind = 'volume' AND state IN ('ready', 'deleted') AND NOT ${IS_SHARED} ORDER BY sequence LIMIT ?`,
        nodeId,
        nameLimit,
      );
      return toNodeLoss(counts, names);
    },

    async lose(nodeId, { nowMs, purgeAtMs, afterSequence, limit }, eventOf) {
      return connection.transaction(() => {
        const node = connection.get("SELECT 1 FROM nodes WHERE id = ? AND lost_at_ms IS NOT NULL", nodeId);
        if (node === undefined) throw nodeNotFound(nodeId);
        const found = connection
          .all(
            `SELECT * FROM disks WHERE node_id = ? AND lost_at_ms IS NULL AND sequence > ? AND NOT ${IS_SHARED} ORDER BY sequence LIMIT ?`,
            nodeId,
            afterSequence,
            limit,
          )
          .map(toDisk);
        return found.map((disk) => {
          if (disk.state === "creating") connection.run("DELETE FROM idempotency_keys WHERE object_id = ?", disk.id);
          const row = connection.get(
            `UPDATE disks SET lost_at_ms = ?, grow_to_bytes = NULL, state = iif(state = 'creating', 'purging', state),
               purge_at_ms = iif(state = 'ready' AND replication_state <> 'replicated', ?, purge_at_ms)
             WHERE id = ? RETURNING *`,
            nowMs,
            purgeAtMs,
            disk.id,
          );
          const lost = toDisk(row ?? {});
          if (lost.state !== "purging") writeEvent(connection, eventOf(lost));
          return lost;
        });
      });
    },

    async beginPurgeLost(nowMs) {
      return connection.transaction(() => {
        connection.run(
          `UPDATE disks SET state = 'purging' WHERE lost_at_ms IS NOT NULL AND purge_at_ms <= ?
             AND (state = 'deleted' OR (state = 'ready' AND replication_state <> 'replicated'))`,
          nowMs,
        );
        return connection
          .all("SELECT * FROM disks WHERE lost_at_ms IS NOT NULL AND state = 'purging' ORDER BY sequence")
          .map(toDisk);
      });
    },

    async beginPurgeLostOf(id) {
      return connection.transaction(() => {
        connection.run(
          "UPDATE disks SET state = 'purging' WHERE id = ? AND state = 'deleted' AND lost_at_ms IS NOT NULL",
          id,
        );
        const row = connection.get(
          "SELECT * FROM disks WHERE id = ? AND state = 'purging' AND lost_at_ms IS NOT NULL",
          id,
        );
        return row === undefined ? null : toDisk(row);
      });
    },

    async rehome(id, owner) {
      return connection.transaction(() => {
        requireLatest(connection, owner);
        connection.run(
          `UPDATE disks SET node_id = ?, node_generation = ?, lost_at_ms = NULL, purge_at_ms = NULL
           WHERE id = ? AND lost_at_ms IS NOT NULL AND state = 'ready' AND replication_state = 'replicated'`,
          owner.nodeId,
          owner.generation,
          id,
        );
        const row = connection.get("SELECT * FROM disks WHERE id = ? AND state = 'ready'", id);
        if (row === undefined) throw diskNotFound("snapshot", id);
        return toDisk(row);
      });
    },
  };
}
