import type { StopReason } from "@caisson/model";
import { fittingNodes, nodeOfDisks, refuseSandbox } from "../choose-node.ts";
import { ownerOf, toDiskPlace, toNode, toSandbox } from "../records.ts";
import { notStarting } from "../refusals.ts";
import type {
  AuditEvent,
  DiskKind,
  DiskPlace,
  Hold,
  NewSandbox,
  NodeRecord,
  Owner,
  ReserveOutcome,
  SandboxRecord,
  SandboxStore,
} from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";
import { labelConditions } from "./labels.ts";
import { SELECT_NODES } from "./nodes.ts";

const ORGANIZATION_COUNT = "SELECT count(*) AS count FROM (SELECT 1 FROM organizations LIMIT 2)";

export function createSandboxStore(connection: Connection): SandboxStore {
  /** Live sandboxes whose hold on the volume excludes this one: any for a writer, a writer for a reader. */
  const conflicting = (hold: Hold): readonly SandboxRecord[] =>
    connection
      .all(
        `SELECT sandboxes.* FROM holds JOIN sandboxes ON sandboxes.id = holds.sandbox_id
         WHERE volume_id = ? AND (? = 0 OR holds.is_read_only = 0)`,
        hold.volumeId,
        hold.isReadOnly ? 1 : 0,
      )
      .map(toSandbox);

  const count = (query: string, ...values: readonly string[]): number =>
    Number(connection.get(query, ...values)?.count);

  /** Which node has each disk, all of which are ready. Throws `*_NOT_FOUND`. */
  const placesOf = (volumes: readonly Hold[], rootSnapshotId: string | null): readonly DiskPlace[] => {
    const placeOf = (kind: DiskKind, id: string): DiskPlace => {
      const disk = connection.get(
        "SELECT slug, node_id, state, lost_at_ms, replication_state, taken_from FROM disks WHERE id = ?",
        id,
      );
      return toDiskPlace(kind, id, disk);
    };
    const root = rootSnapshotId === null ? [] : [placeOf("snapshot", rootSnapshotId)];
    return [...root, ...volumes.map(({ volumeId }) => placeOf("volume", volumeId))];
  };

  const candidates = (nodeId: string | null, region: string): readonly NodeRecord[] =>
    (nodeId === null
      ? connection.all(`${SELECT_NODES} WHERE EXISTS (SELECT 1 FROM json_each(regions) WHERE value = ?)`, region)
      : connection.all(`${SELECT_NODES} WHERE id = ?`, nodeId)
    ).map(toNode);

  const insert = (sandbox: NewSandbox, { nodeId, generation }: Owner, volumes: readonly Hold[]): void => {
    connection.run(
      "UPDATE nodes SET reserved_places = reserved_places + 1, reserved_memory_mib = reserved_memory_mib + ? WHERE id = ?",
      sandbox.memoryMib,
      nodeId,
    );
    connection.run(
      `INSERT INTO sandboxes (id, node_id, node_generation, organization_id, region, status, labels, memory_mib, created_at_ms, stop_at_ms)
       VALUES (?, ?, ?, ?, ?, 'starting', ?, ?, ?, ?)`,
      sandbox.id,
      nodeId,
      generation,
      sandbox.organizationId,
      sandbox.region,
      JSON.stringify(sandbox.labels),
      sandbox.memoryMib,
      sandbox.createdAtMs,
      sandbox.stopAtMs,
    );
    for (const hold of volumes) {
      connection.run(
        "INSERT INTO holds (volume_id, sandbox_id, is_read_only) VALUES (?, ?, ?)",
        hold.volumeId,
        sandbox.id,
        hold.isReadOnly ? 1 : 0,
      );
    }
  };

  return {
    async reserve(
      sandbox,
      volumes,
      places,
      { rootSnapshotId = null, withoutRoot = [], own = null, unreachable = [] } = {},
    ) {
      return connection.transaction((): ReserveOutcome => {
        const disks = placesOf(volumes, rootSnapshotId);
        for (const hold of volumes) {
          const holders = conflicting(hold);
          if (holders.length > 0) return { kind: "held", volumeId: hold.volumeId, holders };
        }
        const live = count(
          "SELECT count(*) AS count FROM sandboxes WHERE organization_id = ? AND status <> 'stopped'",
          sandbox.organizationId,
        );
        if (live >= places.perOrganization) return { kind: "limit", live };
        const nodeId = nodeOfDisks(disks);
        if (nodeId !== null && typeof nodeId !== "string") return nodeId;
        const nodes = candidates(nodeId, sandbox.region);
        const wish = { sandbox, places, own, unreachable, withoutRoot, live, organizations: count(ORGANIZATION_COUNT) };
        const [node] = fittingNodes(nodes, wish);
        if (node === undefined) return refuseSandbox(nodes, wish);
        const owner = ownerOf(node);
        insert(sandbox, owner, volumes);
        return { kind: "reserved", owner };
      });
    },

    async commit(id, event) {
      return connection.transaction(() => {
        const row = connection.get(
          "UPDATE sandboxes SET status = 'running' WHERE id = ? AND status = 'starting' RETURNING *",
          id,
        );
        if (row === undefined) throw notStarting(id);
        writeEvent(connection, event);
        return toSandbox(row);
      });
    },

    async beginEnd(id, stopReason) {
      connection.run(
        "UPDATE sandboxes SET status = 'stopping', stop_reason = coalesce(stop_reason, ?) WHERE id = ? AND status <> 'stopped'",
        stopReason,
        id,
      );
    },

    async setStopAt(id, stopAtMs) {
      connection.run("UPDATE sandboxes SET stop_at_ms = ? WHERE id = ? AND status <> 'stopped'", stopAtMs, id);
    },

    async setKeepUntil(id, keepUntilMs) {
      connection.run(
        "UPDATE sandboxes SET keep_until_ms = max(coalesce(keep_until_ms, 0), ?) WHERE id = ? AND status <> 'stopped'",
        keepUntilMs,
        id,
      );
    },

    async finish(id, stopReason, nowMs, event, damages = []) {
      connection.transaction(() => finishSandbox(connection, id, stopReason, nowMs, event, damages));
    },

    async get(organizationId, id) {
      const row = connection.get("SELECT * FROM sandboxes WHERE organization_id = ? AND id = ?", organizationId, id);
      return row === undefined ? null : toSandbox(row);
    },

    async list(organizationId, limit, labels) {
      const { conditions, values } = labelConditions("labels", labels);
      // Left to itself, SQLite looks for the live ones among all that ended.
      const part = (status: string, index: string): string =>
        `SELECT * FROM (SELECT * FROM sandboxes INDEXED BY ${index} WHERE ${["organization_id = ?", status, ...conditions].join(" AND ")} ORDER BY sequence DESC LIMIT ?)`;
      const partValues = [organizationId, ...values, limit];
      return connection
        .all(
          `SELECT * FROM (${part("status <> 'stopped'", "sandboxes_live")} UNION ALL ${part("status = 'stopped'", "sandboxes_list")})
           ORDER BY status = 'stopped', sequence DESC LIMIT ?`,
          ...partValues,
          ...partValues,
          limit,
        )
        .map(toSandbox);
    },

    async listLeft(owner) {
      return connection
        .all(
          "SELECT * FROM sandboxes WHERE status <> 'stopped' AND node_id = ? AND node_generation < ? ORDER BY sequence",
          owner.nodeId,
          owner.generation,
        )
        .map(toSandbox);
    },

    async listRunning(owner) {
      return connection
        .all(
          "SELECT * FROM sandboxes WHERE status <> 'stopped' AND node_id = ? AND node_generation = ? ORDER BY sequence",
          owner.nodeId,
          owner.generation,
        )
        .map(toSandbox);
    },

    async holds(sandboxId) {
      return connection
        .all("SELECT volume_id, is_read_only FROM holds WHERE sandbox_id = ?", sandboxId)
        .map((row) => ({ volumeId: String(row.volume_id), isReadOnly: row.is_read_only === 1 }));
    },

    async holders(volumeId) {
      return connection
        .all("SELECT sandbox_id, is_read_only FROM holds WHERE volume_id = ?", volumeId)
        .map((row) => ({ sandboxId: String(row.sandbox_id), isReadOnly: row.is_read_only === 1 }));
    },

    async writers(volumeIds) {
      const rows = connection.all(
        "SELECT volume_id, sandbox_id FROM holds WHERE is_read_only = 0 AND volume_id IN (SELECT value FROM json_each(?))",
        JSON.stringify(volumeIds),
      );
      return new Map(rows.map((row) => [String(row.volume_id), String(row.sandbox_id)]));
    },

    async expire(beforeMs) {
      connection.run("DELETE FROM sandboxes WHERE status = 'stopped' AND stopped_at_ms < ?", beforeMs);
    },
  };
}

/** In the transaction that is under way. */
export function finishSandbox(
  connection: Connection,
  id: string,
  stopReason: StopReason,
  nowMs: number,
  event: AuditEvent,
  damages: readonly string[],
): void {
  connection.run("DELETE FROM holds WHERE sandbox_id = ?", id);
  const ended = connection.get(
    `UPDATE sandboxes SET status = 'stopped', stop_reason = coalesce(stop_reason, ?), stopped_at_ms = ?, damages = ?
     WHERE id = ? AND status <> 'stopped' RETURNING node_id, memory_mib`,
    stopReason,
    nowMs,
    JSON.stringify(damages),
    id,
  );
  if (ended === undefined) return;
  connection.run(
    "UPDATE nodes SET reserved_places = reserved_places - 1, reserved_memory_mib = reserved_memory_mib - ? WHERE id = ?",
    Number(ended.memory_mib),
    String(ended.node_id),
  );
  writeEvent(connection, event);
}
