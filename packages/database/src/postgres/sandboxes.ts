import type { StopReason } from "@caisson/model";
import { fittingNodes, leastFreePlaces, nodeOfDisks, refuseSandbox, type Wish } from "../choose-node.ts";
import { ownerOf, type Row, toDiskPlace, toNode, toSandbox } from "../records.ts";
import { notStarting } from "../refusals.ts";
import type { AuditEvent, DiskPlace, Hold, NodeRecord, ReserveOutcome, SandboxStore } from "../store.ts";
import type { Database, Queries } from "./database.ts";
import { changeWithEvent } from "./events.ts";
import { labelWords } from "./label-words.ts";
import { NODE_COLUMNS } from "./nodes.ts";

/** So many nodes are looked at before all are. */
const LIKELY = 32;
const PLACE_COLUMNS = "slug, node_id, state, lost_at_ms, replication_state, taken_from";

export function createSandboxStore(database: Database): SandboxStore {
  /** Locks the volumes, so that they stay as they are; in the order of their ids, so that two reservations do not wait for each other. */
  const lockVolumes = (queries: Queries, volumes: readonly Hold[]): Promise<readonly Row[]> =>
    volumes.length === 0
      ? Promise.resolve([])
      : queries.all(
          `SELECT id, ${PLACE_COLUMNS} FROM disks WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE`,
          volumes.map(({ volumeId }) => volumeId),
        );

  /** Which node has each disk, all of which are ready. Throws `*_NOT_FOUND`. The volumes stay as they are until the transaction ends. */
  const placesOf = async (
    queries: Queries,
    volumes: readonly Hold[],
    rootSnapshotId: string | null,
  ): Promise<readonly DiskPlace[]> => {
    const found = await lockVolumes(queries, volumes);
    const places = volumes.map(({ volumeId }) =>
      toDiskPlace(
        "volume",
        volumeId,
        found.find(({ id }) => id === volumeId),
      ),
    );
    if (rootSnapshotId === null) return places;
    const root = await queries.get(`SELECT ${PLACE_COLUMNS} FROM disks WHERE id = $1`, rootSnapshotId);
    return [toDiskPlace("snapshot", rootSnapshotId, root), ...places];
  };

  /** The live sandboxes that hold the volumes, with the volume and how they hold it. */
  const findHolders = (queries: Queries, volumes: readonly Hold[]): Promise<readonly Row[]> =>
    queries.all(
      `SELECT holds.volume_id, holds.is_read_only, sandboxes.* FROM holds JOIN sandboxes ON sandboxes.id = holds.sandbox_id
       WHERE volume_id = ANY ($1)`,
      volumes.map(({ volumeId }) => volumeId),
    );

  /** The volume, of these that are locked, that is held in a way that excludes this one. */
  const findConflict = async (queries: Queries, volumes: readonly Hold[]): Promise<ReserveOutcome | null> => {
    if (volumes.length === 0) return null;
    const held = await findHolders(queries, volumes);
    for (const { volumeId, isReadOnly } of volumes) {
      const holders = held.filter((row) => row.volume_id === volumeId && !(isReadOnly && row.is_read_only === true));
      if (holders.length > 0) return { kind: "held", volumeId, holders: holders.map(toSandbox) };
    }
    return null;
  };

  /**
   * What the organization has on all nodes, and the nodes that the sandbox may run on, as they are now: at most so many, those first that are likely to fit.
   */
  const lookAround = async (
    queries: Queries,
    { sandbox: { organizationId, region }, withoutRoot }: Pick<Wish, "sandbox" | "withoutRoot">,
    nodeId: string | null,
    limit: number | null,
  ): Promise<Pick<Wish, "live" | "organizations"> & { readonly nodes: readonly NodeRecord[] }> => {
    const rows = await queries.all(
      `SELECT * FROM (
         SELECT count(*) AS live, (SELECT count(*) FROM (SELECT 1 FROM organizations LIMIT 2) AS first_two) AS organizations
         FROM sandboxes WHERE organization_id = $1 AND status <> 'stopped'
       ) AS counts LEFT JOIN (
         SELECT ${NODE_COLUMNS} FROM nodes WHERE ${nodeId === null ? "regions::jsonb ? $2" : "id = $2"}
         ORDER BY is_draining, is_live DESC, id = ANY ($4::text[]), reserved_memory_mib, reserved_places LIMIT $3
       ) AS candidates ON true`,
      organizationId,
      nodeId ?? region,
      limit,
      withoutRoot,
    );
    const [first] = rows;
    const nodes = rows.filter(({ id }) => id !== null).map(toNode);
    return { live: Number(first?.live), organizations: Number(first?.organizations), nodes };
  };

  /** Locks the first of the nodes that nobody else reserves on just now. Absent: others are at each. */
  const lockOneOf = async (queries: Queries, nodes: readonly NodeRecord[]): Promise<NodeRecord | undefined> => {
    const row = await queries.get(
      "SELECT id FROM nodes WHERE id = ANY ($1) ORDER BY array_position($1, id) LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
      nodes.map(({ id }) => id),
    );
    return nodes.find(({ id }) => id === row?.id);
  };

  /**
   * Takes the sandbox's part of the node, waiting for others that do just then, and inserts its row and holds. False, with nothing done: since it was looked at, the node has begun
   * again, drains, or has no room any more.
   */
  const insert = async (
    queries: Queries,
    { sandbox, ...wish }: Wish,
    node: NodeRecord,
    volumes: readonly Hold[],
  ): Promise<boolean> => {
    const row = await queries.get(
      `WITH node AS (
         UPDATE nodes SET reserved_places = reserved_places + 1, reserved_memory_mib = reserved_memory_mib + $6
         WHERE id = $11 AND generation = $12 AND NOT is_draining AND places - reserved_places >= $13
           AND (memory_mib IS NULL OR memory_mib - reserved_memory_mib >= $6)
         RETURNING id
       ), sandbox AS (
         INSERT INTO sandboxes (id, organization_id, region, status, labels, label_words, memory_mib, created_at_ms, stop_at_ms, node_id, node_generation)
         SELECT $1, $2, $3, 'starting', $4, $5, $6, $7, $8, $11, $12 FROM node
       ), held AS (
         INSERT INTO holds (volume_id, sandbox_id, is_read_only) SELECT volume_id, $1, is_read_only
           FROM node, unnest($9::text[], $10::boolean[]) AS wanted (volume_id, is_read_only)
       )
       SELECT id FROM node`,
      sandbox.id,
      sandbox.organizationId,
      sandbox.region,
      JSON.stringify(sandbox.labels),
      labelWords(sandbox.labels),
      sandbox.memoryMib,
      sandbox.createdAtMs,
      sandbox.stopAtMs,
      volumes.map(({ volumeId }) => volumeId),
      volumes.map(({ isReadOnly }) => isReadOnly),
      node.id,
      node.generation,
      leastFreePlaces(node, wish),
    );
    return row !== undefined;
  };

  /** Reserves on one of the nodes that can run the sandbox. What was read before a node was taken may have changed by then; then all are looked at again. */
  const take = async (
    queries: Queries,
    ask: Pick<Wish, "sandbox" | "places" | "own" | "unreachable" | "withoutRoot">,
    volumes: readonly Hold[],
    disks: readonly DiskPlace[],
  ): Promise<ReserveOutcome> => {
    const nodeId = nodeOfDisks(disks);
    if (nodeId !== null && typeof nodeId !== "string") return nodeId;
    for (let limit: number | null = LIKELY; ; ) {
      const { live, organizations, nodes } = await lookAround(queries, ask, nodeId, limit);
      if (live >= ask.places.perOrganization) return { kind: "limit", live };
      const wish = { ...ask, live, organizations };
      const fitting = fittingNodes(nodes, wish);
      const [best, second] = fitting;
      if (best === undefined) {
        if (nodes.length !== limit) return refuseSandbox(nodes, wish);
        limit = null;
        continue;
      }
      const node = second === undefined ? best : ((await lockOneOf(queries, fitting)) ?? best);
      if (await insert(queries, wish, node, volumes)) return { kind: "reserved", owner: ownerOf(node) };
    }
  };

  return {
    reserve(sandbox, volumes, places, { rootSnapshotId = null, withoutRoot = [], own = null, unreachable = [] } = {}) {
      return database.transaction(async (queries): Promise<ReserveOutcome> => {
        const disks = await placesOf(queries, volumes, rootSnapshotId);
        const conflict = await findConflict(queries, volumes);
        if (conflict !== null) return conflict;
        // From here on one reservation of the organization at a time, and one on each node, so that each counts the one before it.
        await queries.run("SELECT 1 FROM organizations WHERE id = $1 FOR NO KEY UPDATE", sandbox.organizationId);
        return take(queries, { sandbox, places, own, unreachable, withoutRoot }, volumes, disks);
      });
    },

    commit(id, event) {
      return database.transaction(async (queries) => {
        const sql = "UPDATE sandboxes SET status = 'running' WHERE id = $1 AND status = 'starting'";
        const row = await changeWithEvent(queries, sql, [id], event);
        if (row === undefined) throw notStarting(id);
        return toSandbox(row);
      });
    },

    async beginEnd(id, stopReason) {
      await database.transaction((queries) =>
        queries.run(
          "UPDATE sandboxes SET status = 'stopping', stop_reason = coalesce(stop_reason, $1) WHERE id = $2 AND status <> 'stopped'",
          stopReason,
          id,
        ),
      );
    },

    async setStopAt(id, stopAtMs) {
      await database.transaction((queries) =>
        queries.run("UPDATE sandboxes SET stop_at_ms = $1 WHERE id = $2 AND status <> 'stopped'", stopAtMs, id),
      );
    },

    async setKeepUntil(id, keepUntilMs) {
      await database.transaction((queries) =>
        queries.run(
          "UPDATE sandboxes SET keep_until_ms = greatest(keep_until_ms, $1) WHERE id = $2 AND status <> 'stopped'",
          keepUntilMs,
          id,
        ),
      );
    },

    async finish(id, stopReason, nowMs, event, damages = []) {
      await database.transaction((queries) => finishSandbox(queries, id, stopReason, nowMs, event, damages));
    },

    async get(organizationId, id) {
      const row = await database.read((queries) =>
        queries.get("SELECT * FROM sandboxes WHERE organization_id = $1 AND id = $2", organizationId, id),
      );
      return row === undefined ? null : toSandbox(row);
    },

    async list(organizationId, limit, labels = {}) {
      // Each part comes from its own index in its own order.
      const part = (condition: string): string =>
        `(SELECT * FROM sandboxes WHERE organization_id = $1 AND ${condition} AND label_words @> $3 ORDER BY sequence DESC LIMIT $2)`;
      const rows = await database.read((queries) =>
        queries.all(
          `SELECT * FROM (${part("status <> 'stopped'")} UNION ALL ${part("status = 'stopped'")}) AS found
           ORDER BY status = 'stopped', sequence DESC LIMIT $2`,
          organizationId,
          limit,
          labelWords(labels),
        ),
      );
      return rows.map(toSandbox);
    },

    async listLeft(owner) {
      const sql =
        "SELECT * FROM sandboxes WHERE status <> 'stopped' AND node_id = $1 AND node_generation < $2 ORDER BY sequence";
      const rows = await database.read((queries) => queries.all(sql, owner.nodeId, owner.generation));
      return rows.map(toSandbox);
    },

    async listRunning(owner) {
      const sql =
        "SELECT * FROM sandboxes WHERE status <> 'stopped' AND node_id = $1 AND node_generation = $2 ORDER BY sequence";
      const rows = await database.read((queries) => queries.all(sql, owner.nodeId, owner.generation));
      return rows.map(toSandbox);
    },

    async holds(sandboxId) {
      const sql = "SELECT volume_id, is_read_only FROM holds WHERE sandbox_id = $1 ORDER BY volume_id";
      const rows = await database.read((queries) => queries.all(sql, sandboxId));
      return rows.map((row) => ({ volumeId: String(row.volume_id), isReadOnly: row.is_read_only === true }));
    },

    async holders(volumeId) {
      const sql = "SELECT sandbox_id, is_read_only FROM holds WHERE volume_id = $1 ORDER BY sandbox_id";
      const rows = await database.read((queries) => queries.all(sql, volumeId));
      return rows.map((row) => ({ sandboxId: String(row.sandbox_id), isReadOnly: row.is_read_only === true }));
    },

    async writers(volumeIds) {
      const sql = "SELECT volume_id, sandbox_id FROM holds WHERE NOT is_read_only AND volume_id = ANY ($1)";
      const rows = await database.read((queries) => queries.all(sql, volumeIds));
      return new Map(rows.map((row) => [String(row.volume_id), String(row.sandbox_id)]));
    },

    async expire(beforeMs) {
      await database.deleteAll("sandboxes", "status = 'stopped' AND stopped_at_ms < $1", beforeMs);
    },
  };
}

/** In the transaction that is under way. */
export async function finishSandbox(
  queries: Queries,
  id: string,
  stopReason: StopReason,
  nowMs: number,
  event: AuditEvent,
  damages: readonly string[],
): Promise<void> {
  await queries.run("DELETE FROM holds WHERE sandbox_id = $1", id);
  const ended = await changeWithEvent(
    queries,
    `UPDATE sandboxes SET status = 'stopped', stop_reason = coalesce(stop_reason, $1), stopped_at_ms = $2, damages = $3
     WHERE id = $4 AND status <> 'stopped'`,
    [stopReason, nowMs, JSON.stringify(damages), id],
    event,
  );
  if (ended === undefined) return;
  await queries.run(
    "UPDATE nodes SET reserved_places = reserved_places - 1, reserved_memory_mib = reserved_memory_mib - $1 WHERE id = $2",
    Number(ended.memory_mib),
    String(ended.node_id),
  );
}
