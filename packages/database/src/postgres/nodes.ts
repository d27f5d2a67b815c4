import { toForgottenNode, toNode } from "../records.ts";
import { nodeForgotten, nodeInUse, nodeNotFound, notLatest, requireOnlyRegion, runShutOut } from "../refusals.ts";
import type { NodeRecord, NodeStore, Owner } from "../store.ts";
import type { Database, Queries } from "./database.ts";
import { writeEvent } from "./events.ts";

/** The clock of the store, standing still during a statement. */
export const NOW_MS = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint";
export const NODE_COLUMNS = `nodes.*, lease_until_ms > ${NOW_MS} AS is_live`;

export function createNodeStore(database: Database): NodeStore {
  /** The node, which stays as it is until the transaction ends. */
  const lock = async (queries: Queries, id: string): Promise<NodeRecord> => {
    const row = await queries.get(`SELECT ${NODE_COLUMNS} FROM nodes WHERE id = $1 FOR UPDATE`, id);
    if (row === undefined) throw nodeNotFound(id);
    return toNode(row);
  };

  return {
    begin(node, leaseMs) {
      return database.transaction(async (queries) => {
        // What an earlier generation has just begun is in the database before the next one looks.
        const known = await queries.get(
          "SELECT only_region, lost_at_ms, run_id, shut_out_generation = generation AS is_shut_out FROM nodes WHERE id = $1 FOR UPDATE",
          node.id,
        );
        if (known === undefined) await requireNotForgotten(queries, node.id);
        else if (known.lost_at_ms !== null) throw nodeForgotten(node.id);
        if (known?.is_shut_out === true && known.run_id === node.runId) throw runShutOut(node.id);
        requireOnlyRegion(node, known);
        await queries.run(
          `INSERT INTO nodes (id, regions, address, labels, places, memory_mib, run_id, generation, lease_until_ms, started_at_ms, seen_at_ms)
           VALUES ($1, $2, coalesce($3, (SELECT address FROM nodes WHERE id = $1)), $4, $5, $6, $7, 1, ${NOW_MS} + $8::bigint, ${NOW_MS}, ${NOW_MS})
           ON CONFLICT (id) DO UPDATE SET regions = excluded.regions, address = excluded.address, labels = excluded.labels, places = excluded.places,
             memory_mib = excluded.memory_mib, run_id = excluded.run_id, lease_until_ms = excluded.lease_until_ms, seen_at_ms = excluded.seen_at_ms,
             generation = nodes.generation + CASE WHEN nodes.run_id = excluded.run_id THEN 0 ELSE 1 END,
             started_at_ms = CASE WHEN nodes.run_id = excluded.run_id THEN nodes.started_at_ms ELSE excluded.started_at_ms END`,
          node.id,
          JSON.stringify(node.regions),
          node.address,
          JSON.stringify(node.labels),
          node.capacity.places,
          node.capacity.memoryMib,
          node.runId,
          leaseMs,
        );
        // An end that is under way gives its part back when this transaction has ended.
        const row = await queries.get(
          `UPDATE nodes SET shared_pools = (shared_pools::jsonb || $2::jsonb)::json, reserved_places = live.places, reserved_memory_mib = live.memory_mib
           FROM (SELECT count(*) AS places, coalesce(sum(memory_mib), 0)::bigint AS memory_mib FROM sandboxes WHERE node_id = $1 AND status <> 'stopped') AS live
           WHERE id = $1 RETURNING ${NODE_COLUMNS}`,
          node.id,
          JSON.stringify(node.sharedPools ?? {}),
        );
        return toNode(row ?? {});
      });
    },

    async renew(owner, leaseMs, freeBytes, sharedPools = {}) {
      await database.transaction(async (queries) => {
        const renewed = await queries.run(
          `UPDATE nodes SET lease_until_ms = ${NOW_MS} + $1::bigint, seen_at_ms = ${NOW_MS}, free_bytes = $4, shared_pools = (shared_pools::jsonb || $5::jsonb)::json
           WHERE id = $2 AND generation = $3 AND lost_at_ms IS NULL AND shut_out_generation IS DISTINCT FROM generation`,
          leaseMs,
          owner.nodeId,
          owner.generation,
          JSON.stringify(freeBytes),
          JSON.stringify(sharedPools),
        );
        if (renewed === 0) await requireLatest(queries, owner);
      }, "node-renew");
    },

    async get(id) {
      const row = await database.read((queries) => queries.get(`SELECT ${NODE_COLUMNS} FROM nodes WHERE id = $1`, id));
      return row === undefined ? null : toNode(row);
    },

    async list() {
      return (await database.read((queries) => queries.all(`SELECT ${NODE_COLUMNS} FROM nodes ORDER BY id`))).map(
        toNode,
      );
    },

    setDraining(id, isDraining, event) {
      return database.transaction(async (queries) => {
        const node = await lock(queries, id);
        if (node.isDraining === isDraining) return node;
        await queries.run("UPDATE nodes SET is_draining = $1 WHERE id = $2", isDraining, id);
        await writeEvent(queries, event);
        return { ...node, isDraining };
      });
    },

    setAddress(id, address, event) {
      return database.transaction(async (queries) => {
        const node = await lock(queries, id);
        if (node.address === address) return node;
        await queries.run("UPDATE nodes SET address = $1 WHERE id = $2", address, id);
        await writeEvent(queries, event);
        return { ...node, address };
      });
    },

    setCertificate(id, { untilMs, authority, oldestAuthority }, event) {
      return database.transaction(async (queries) => {
        const sql = `UPDATE nodes SET certificate_until_ms = $1, certificate_authority = $2, oldest_authority = coalesce($3::int, oldest_authority)
          WHERE id = $4 AND lost_at_ms IS NULL`;
        if ((await queries.run(sql, untilMs, authority, oldestAuthority, id)) === 0) return false;
        if (event !== null) await writeEvent(queries, event);
        return true;
      });
    },

    giveUp(id, event) {
      return database.transaction(async (queries) => {
        const node = await lock(queries, id);
        if (node.lostAtMs !== null) return node;
        if (node.isLive) throw nodeInUse(node, null);
        await queries.run("UPDATE nodes SET lost_at_ms = $1 WHERE id = $2", event.atMs, id);
        await writeEvent(queries, event);
        return { ...node, lostAtMs: event.atMs };
      });
    },

    async forget(id, event) {
      await database.transaction(async (queries) => {
        const node = await lock(queries, id);
        if (node.isLive) throw nodeInUse(node, null);
        const held = await queries.get(
          `SELECT id FROM disks WHERE node_id = $1 AND lost_at_ms IS NULL
           UNION ALL SELECT id FROM sandboxes WHERE node_id = $1 AND status <> 'stopped' LIMIT 1`,
          id,
        );
        if (held !== undefined) throw nodeInUse(node, String(held.id));
        await queries.run("DELETE FROM nodes WHERE id = $1", id);
        const sql = "INSERT INTO forgotten_nodes (id, address, forgotten_at_ms) VALUES ($1, $2, $3)";
        await queries.run(sql, id, node.address, event.atMs);
        await writeEvent(queries, event);
      });
    },

    async listForgotten() {
      const sql = "SELECT * FROM forgotten_nodes WHERE address IS NOT NULL ORDER BY id";
      return (await database.read((queries) => queries.all(sql))).map(toForgottenNode);
    },

    async setTold(id) {
      const sql = "UPDATE forgotten_nodes SET address = NULL WHERE id = $1";
      await database.transaction((queries) => queries.run(sql, id));
    },
  };
}

async function requireNotForgotten(queries: Queries, id: string): Promise<void> {
  if ((await queries.get("SELECT 1 FROM forgotten_nodes WHERE id = $1", id)) !== undefined) throw nodeForgotten(id);
}

/**
 * Throws `NODE_UNAVAILABLE` when the owner is not its node's latest, or was shut out, and keeps the node from beginning again, and from being forgotten, until the transaction
 * ends.
 */
export async function requireLatest(queries: Queries, owner: Owner): Promise<void> {
  const row = await queries.get(
    "SELECT generation, lost_at_ms, shut_out_generation = generation AS is_shut_out FROM nodes WHERE id = $1 FOR KEY SHARE",
    owner.nodeId,
  );
  const isGone = row === undefined || row.lost_at_ms !== null;
  if (!isGone && Number(row.generation) === owner.generation) {
    if (row.is_shut_out === true) throw runShutOut(owner.nodeId);
    return;
  }
  throw notLatest(owner, isGone ? null : Number(row.generation));
}
