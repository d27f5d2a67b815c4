import { toSandbox } from "../records.ts";
import { notStarting, volumeNotFound } from "../refusals.ts";
import { refuseSandbox } from "../sandbox-limits.ts";
import type { Hold, ReserveOutcome, SandboxRecord, SandboxStore } from "../store.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";
import { labelConditions } from "./labels.ts";
import { requireLatest } from "./nodes.ts";

const ORGANIZATION_COUNT = "SELECT count(*) AS count FROM organizations";

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

  return {
    async reserve(sandbox, volumes, places) {
      return connection.transaction((): ReserveOutcome => {
        const live = count(
          "SELECT count(*) AS count FROM sandboxes WHERE organization_id = ? AND status <> 'stopped'",
          sandbox.organizationId,
        );
        for (const hold of volumes) {
          const volume = connection.get("SELECT state FROM disks WHERE id = ?", hold.volumeId);
          if (volume?.state !== "ready") throw volumeNotFound(hold.volumeId);
          const holders = conflicting(hold);
          if (holders.length > 0) return { kind: "held", volumeId: hold.volumeId, holders };
        }
        const node = requireLatest(connection, sandbox.owner);
        const refusal = refuseSandbox(node, sandbox, places, live, () => count(ORGANIZATION_COUNT));
        if (refusal !== null) return refusal;
        connection.run(
          "UPDATE nodes SET reserved_places = reserved_places + 1, reserved_memory_mib = reserved_memory_mib + ? WHERE id = ?",
          sandbox.memoryMib,
          sandbox.owner.nodeId,
        );
        connection.run(
          `INSERT INTO sandboxes (id, node_id, node_generation, organization_id, region, status, labels, memory_mib, created_at_ms, stop_at_ms)
           VALUES (?, ?, ?, ?, ?, 'starting', ?, ?, ?, ?)`,
          sandbox.id,
          sandbox.owner.nodeId,
          sandbox.owner.generation,
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
        return { kind: "reserved" };
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

    async finish(id, stopReason, nowMs, event, damages = []) {
      connection.transaction(() => {
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
      });
    },

    async get(organizationId, id) {
      const row = connection.get("SELECT * FROM sandboxes WHERE organization_id = ? AND id = ?", organizationId, id);
      return row === undefined ? null : toSandbox(row);
    },

    async list(organizationId, limit, labels) {
      const { conditions, values } = labelConditions("labels", labels);
      return connection
        .all(
          `SELECT * FROM sandboxes WHERE ${["organization_id = ?", ...conditions].join(" AND ")}
           ORDER BY status = 'stopped', sequence DESC LIMIT ?`,
          organizationId,
          ...values,
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
