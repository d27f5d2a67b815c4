import { type Row, toNode } from "../records.ts";
import { nodeInUse, nodeNotFound, notLatest } from "../refusals.ts";
import type { NodeRecord, NodeStore, Owner } from "../store.ts";
import type { Database, Queries } from "./database.ts";
import { writeEvent } from "./events.ts";

/** The clock of the store, standing still during a statement. */
const NOW_MS = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint";
const COLUMNS = `*, lease_until_ms > ${NOW_MS} AS is_live`;

export function createNodeStore(database: Database): NodeStore {
  /** The node, which stays as it is until the transaction ends. */
  const lock = async (queries: Queries, id: string): Promise<NodeRecord> => {
    const row = await queries.get(`SELECT ${COLUMNS} FROM nodes WHERE id = $1 FOR UPDATE`, id);
    if (row === undefined) throw nodeNotFound(id);
    return toNode(row);
  };

  return {
    begin(node, leaseMs) {
      return database.transaction(async (queries) => {
        // What an earlier generation has just begun is in the database before the next one looks.
        await queries.run("SELECT 1 FROM nodes WHERE id = $1 FOR UPDATE", node.id);
        const row = await queries.get(
          `INSERT INTO nodes (id, regions, address, labels, places, memory_mib, generation, lease_until_ms, started_at_ms, seen_at_ms)
           VALUES ($1, $2, $3, $4, $5, $6, 1, ${NOW_MS} + $7::bigint, ${NOW_MS}, ${NOW_MS})
           ON CONFLICT (id) DO UPDATE SET generation = nodes.generation + 1, regions = excluded.regions, address = excluded.address,
             labels = excluded.labels, places = excluded.places, memory_mib = excluded.memory_mib, lease_until_ms = excluded.lease_until_ms,
             started_at_ms = excluded.started_at_ms, seen_at_ms = excluded.seen_at_ms
           RETURNING ${COLUMNS}`,
          node.id,
          JSON.stringify(node.regions),
          node.address,
          JSON.stringify(node.labels),
          node.capacity.places,
          node.capacity.memoryMib,
          leaseMs,
        );
        return toNode(row ?? {});
      });
    },

    async renew(owner, leaseMs) {
      await database.transaction(async (queries) => {
        const renewed = await queries.run(
          `UPDATE nodes SET lease_until_ms = ${NOW_MS} + $1::bigint, seen_at_ms = ${NOW_MS} WHERE id = $2 AND generation = $3`,
          leaseMs,
          owner.nodeId,
          owner.generation,
        );
        if (renewed === 0) await requireLatest(queries, owner);
      }, "node-renew");
    },

    async get(id) {
      const row = await database.read((queries) => queries.get(`SELECT ${COLUMNS} FROM nodes WHERE id = $1`, id));
      return row === undefined ? null : toNode(row);
    },

    async list() {
      return (await database.read((queries) => queries.all(`SELECT ${COLUMNS} FROM nodes ORDER BY id`))).map(toNode);
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

    async forget(id, event) {
      await database.transaction(async (queries) => {
        const node = await lock(queries, id);
        if (node.isLive) throw nodeInUse(node, null);
        const held = await queries.get(
          `SELECT id FROM disks WHERE node_id = $1
           UNION ALL SELECT id FROM sandboxes WHERE node_id = $1 AND status <> 'stopped' LIMIT 1`,
          id,
        );
        if (held !== undefined) throw nodeInUse(node, String(held.id));
        await queries.run("DELETE FROM nodes WHERE id = $1", id);
        await writeEvent(queries, event);
      });
    },
  };
}

/**
 * Throws `NODE_UNAVAILABLE` when the owner is not its node's latest, and keeps the node from beginning again, and from being forgotten, until the transaction
 * ends.
 */
export async function requireLatest(queries: Queries, owner: Owner): Promise<void> {
  check(await queries.get("SELECT generation FROM nodes WHERE id = $1 FOR KEY SHARE", owner.nodeId), owner);
}

/** As `requireLatest`, and returns the row, which nobody else changes until the transaction ends. */
export async function lockLatest(queries: Queries, owner: Owner): Promise<Row> {
  return check(await queries.get("SELECT * FROM nodes WHERE id = $1 FOR NO KEY UPDATE", owner.nodeId), owner);
}

function check(row: Row | undefined, owner: Owner): Row {
  if (row !== undefined && Number(row.generation) === owner.generation) return row;
  throw notLatest(owner, row === undefined ? null : Number(row.generation));
}
