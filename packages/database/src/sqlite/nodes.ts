import { type Row, toForgottenNode, toNode } from "../records.ts";
import { nodeForgotten, nodeInUse, nodeNotFound, notLatest, requireOnlyRegion, runShutOut } from "../refusals.ts";
import type { NodeRecord, NodeStore, Owner } from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";

/** The clock of the store, standing still during a statement. */
export const NOW_MS = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
export const SELECT_NODES = `SELECT *, lease_until_ms > ${NOW_MS} AS is_live FROM nodes`;

export function createNodeStore(connection: Connection): NodeStore {
  const mustGet = (id: string): NodeRecord => {
    const row = connection.get(`${SELECT_NODES} WHERE id = ?`, id);
    if (row === undefined) throw nodeNotFound(id);
    return toNode(row);
  };

  return {
    async begin(node, leaseMs) {
      return connection.transaction(() => {
        if (connection.get("SELECT 1 FROM forgotten_nodes WHERE id = ?", node.id) !== undefined)
          throw nodeForgotten(node.id);
        const known = connection.get(
          "SELECT only_region, lost_at_ms, run_id, shut_out_generation = generation AS is_shut_out FROM nodes WHERE id = ?",
          node.id,
        );
        if (known !== undefined && known.lost_at_ms !== null) throw nodeForgotten(node.id);
        if (known?.is_shut_out === 1 && known.run_id === node.runId) throw runShutOut(node.id);
        requireOnlyRegion(node, known);
        connection.run(
          `INSERT INTO nodes (id, regions, address, labels, places, memory_mib, run_id, generation, lease_until_ms, started_at_ms, seen_at_ms)
           VALUES (?1, ?2, coalesce(?3, (SELECT address FROM nodes WHERE id = ?1)), ?4, ?5, ?6, ?7, 1, ${NOW_MS} + ?8, ${NOW_MS}, ${NOW_MS})
           ON CONFLICT (id) DO UPDATE SET regions = excluded.regions, address = excluded.address, labels = excluded.labels, places = excluded.places,
             memory_mib = excluded.memory_mib, run_id = excluded.run_id, lease_until_ms = excluded.lease_until_ms, seen_at_ms = excluded.seen_at_ms,
             generation = generation + iif(run_id = excluded.run_id, 0, 1),
             started_at_ms = iif(run_id = excluded.run_id, started_at_ms, excluded.started_at_ms)`,
          node.id,
          JSON.stringify(node.regions),
          node.address,
          JSON.stringify(node.labels),
          node.capacity.places,
          node.capacity.memoryMib,
          node.runId,
          leaseMs,
        );
        connection.run(
          `UPDATE nodes SET shared_pools = json_patch(shared_pools, ?), (reserved_places, reserved_memory_mib) =
             (SELECT count(*), coalesce(sum(memory_mib), 0) FROM sandboxes WHERE node_id = nodes.id AND status <> 'stopped')
           WHERE id = ?`,
          JSON.stringify(node.sharedPools ?? {}),
          node.id,
        );
        return mustGet(node.id);
      });
    },

    async renew(owner, leaseMs, freeBytes, sharedPools = {}) {
      connection.unsyncedTransaction(() => {
        requireLatest(connection, owner);
        connection.run(
          `UPDATE nodes SET lease_until_ms = ${NOW_MS} + ?, seen_at_ms = ${NOW_MS}, free_bytes = ?, shared_pools = json_patch(shared_pools, ?) WHERE id = ?`,
          leaseMs,
          JSON.stringify(freeBytes),
          JSON.stringify(sharedPools),
          owner.nodeId,
        );
      }, "node-renew");
    },

    async get(id) {
      const row = connection.get(`${SELECT_NODES} WHERE id = ?`, id);
      return row === undefined ? null : toNode(row);
    },

    async list() {
      return connection.all(`${SELECT_NODES} ORDER BY id`).map(toNode);
    },

    async setDraining(id, isDraining, event) {
      return connection.transaction(() => {
        if (mustGet(id).isDraining === isDraining) return mustGet(id);
        connection.run("UPDATE nodes SET is_draining = ? WHERE id = ?", isDraining ? 1 : 0, id);
        writeEvent(connection, event);
        return mustGet(id);
      });
    },

    async setAddress(id, address, event) {
      return connection.transaction(() => {
        if (mustGet(id).address === address) return mustGet(id);
        connection.run("UPDATE nodes SET address = ? WHERE id = ?", address, id);
        writeEvent(connection, event);
        return mustGet(id);
      });
    },

    async setCertificate(id, { untilMs, authority, oldestAuthority }, event) {
      return connection.transaction(() => {
        const sql = `UPDATE nodes SET certificate_until_ms = ?, certificate_authority = ?, oldest_authority = coalesce(?, oldest_authority)
          WHERE id = ? AND lost_at_ms IS NULL`;
        if (connection.run(sql, untilMs, authority, oldestAuthority, id) === 0) return false;
        if (event !== null) writeEvent(connection, event);
        return true;
      });
    },

    async giveUp(id, event) {
      return connection.transaction(() => {
        const node = mustGet(id);
        if (node.lostAtMs !== null) return node;
        if (node.isLive) throw nodeInUse(node, null);
        connection.run("UPDATE nodes SET lost_at_ms = ? WHERE id = ?", event.atMs, id);
        writeEvent(connection, event);
        return mustGet(id);
      });
    },

    async forget(id, event) {
      connection.transaction(() => {
        const node = mustGet(id);
        if (node.isLive) throw nodeInUse(node, null);
        const disk = connection.get("SELECT id FROM disks WHERE node_id = ? AND lost_at_ms IS NULL LIMIT 1", id);
        if (disk !== undefined) throw nodeInUse(node, String(disk.id));
        const sandbox = connection.get(
          "SELECT id FROM sandboxes WHERE node_id = ? AND status <> 'stopped' LIMIT 1",
          id,
        );
        if (sandbox !== undefined) throw nodeInUse(node, String(sandbox.id));
        connection.run("DELETE FROM nodes WHERE id = ?", id);
        connection.run(
          "INSERT INTO forgotten_nodes (id, address, forgotten_at_ms) VALUES (?, ?, ?)",
          id,
          node.address,
          event.atMs,
        );
        writeEvent(connection, event);
      });
    },

    async listForgotten() {
      return connection.all("SELECT * FROM forgotten_nodes WHERE address IS NOT NULL ORDER BY id").map(toForgottenNode);
    },

    async setTold(id) {
      connection.run("UPDATE forgotten_nodes SET address = NULL WHERE id = ?", id);
    },
  };
}

/** The row of the owner's node, in the transaction that is under way. Throws `NODE_UNAVAILABLE` when the owner is not its latest, or was shut out. */
export function requireLatest(connection: Connection, owner: Owner): Row {
  const row = connection.get("SELECT * FROM nodes WHERE id = ?", owner.nodeId);
  const isGone = row === undefined || row.lost_at_ms !== null;
  if (!isGone && row.generation === owner.generation) {
    if (row.shut_out_generation === owner.generation) throw runShutOut(owner.nodeId);
    return row;
  }
  throw notLatest(owner, isGone ? null : Number(row.generation));
}
