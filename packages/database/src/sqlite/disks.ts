import { ownerOf, toDisk, toDiskTotal, toNode } from "../records.ts";
import { diskInUse, diskNotFound, keyReused, regionUnavailable, slugTaken } from "../refusals.ts";
import { isSearchable } from "../search-term.ts";
import type { Disk, DiskQuery, DiskStore, DiskUsage, IdempotencyKey, NewDisk, Owner } from "../store.ts";
import { type Connection, isUniqueViolation } from "./connection.ts";
import { searchExpression } from "./disk-search.ts";
import { writeEvent } from "./events.ts";
import { diskInserter } from "./insert-disk.ts";
import { labelConditions } from "./labels.ts";
import { createLostDiskStore } from "./lost-disks.ts";
import { requireLatest, SELECT_NODES } from "./nodes.ts";
import { createReplicationStore } from "./replication.ts";
import { createScheduleStore, finishScheduled } from "./schedules.ts";
import { createTakenDiskStore } from "./taken-disks.ts";

/** The condition of the partial index `disks_unsettled`, without which SQLite would not use it and read every disk. */
const UNSETTLED = "state <> 'ready'";

export function createDiskStore(connection: Connection): DiskStore {
  const insert = diskInserter(connection);
  const get = (id: string): Disk | null => {
    const row = connection.get("SELECT * FROM disks WHERE id = ?", id);
    return row === undefined ? null : toDisk(row);
  };

  const mustGet = (id: string): Disk => {
    const disk = get(id);
    if (disk === null) throw diskNotFound("disk", id);
    return disk;
  };

  /** Throws `VOLUME_IN_USE` naming a sandbox that holds the volume. */
  const requireDetached = (verb: string, disk: Disk): void => {
    const holder = connection.get("SELECT sandbox_id FROM holds WHERE volume_id = ? LIMIT 1", disk.id);
    if (holder !== undefined) throw diskInUse(verb, disk, String(holder.sandbox_id));
  };

  /** Where a disk is made that may be made anywhere in its region. */
  const chooseNode = (region: string, own: Owner | null, unreachable: readonly string[]): Owner => {
    const nodes = connection
      .all(
        `${SELECT_NODES} WHERE EXISTS (SELECT 1 FROM json_each(regions) WHERE value = ?)
         ORDER BY is_draining, (SELECT value FROM json_each(free_bytes) WHERE key = ?) DESC, id`,
        region,
        region,
      )
      .map(toNode);
    const node = nodes.find(({ id, isLive }) => (isLive || id === own?.nodeId) && !unreachable.includes(id));
    if (node === undefined) throw regionUnavailable("make anything", region, nodes);
    return ownerOf(node);
  };

  /** The object of an earlier request with the same key, or null when the key is new and now taken by `disk`. */
  const takeKey = (disk: NewDisk, idempotency: IdempotencyKey): string | null => {
    const earlier = connection.get(
      "SELECT request_hash, object_id FROM idempotency_keys WHERE organization_id = ? AND key = ?",
      disk.organizationId,
      idempotency.key,
    );
    if (earlier === undefined) {
      connection.run(
        "INSERT INTO idempotency_keys (organization_id, key, request_hash, object_id, created_at_ms) VALUES (?, ?, ?, ?, ?)",
        disk.organizationId,
        idempotency.key,
        idempotency.requestHash,
        disk.id,
        disk.createdAtMs,
      );
      return null;
    }
    if (Buffer.compare(earlier.request_hash as Uint8Array, idempotency.requestHash) === 0)
      return String(earlier.object_id);
    throw keyReused(idempotency.key);
  };

  /** Throws `SNAPSHOT_NOT_FOUND` when the snapshot that the disk is made from is deleted or gone. */
  const requireReadyParent = ({ parent }: NewDisk): void => {
    if (parent?.kind !== "snapshot") return;
    const ready = connection.get("SELECT 1 FROM disks WHERE id = ? AND state = 'ready'", parent.id);
    if (ready === undefined) throw diskNotFound("snapshot", parent.slug);
  };

  return {
    async reserve(disk, idempotency = null, { own = null, unreachable = [] } = {}) {
      try {
        return connection.transaction(() => {
          const existingId = idempotency === null ? null : takeKey(disk, idempotency);
          if (existingId !== null) return { existingId };
          const owner = disk.owner ?? chooseNode(disk.region, own, unreachable);
          requireLatest(connection, owner.nodeId === own?.nodeId ? own : owner);
          requireReadyParent(disk);
          insert(disk, owner, null);
          return { existingId, owner };
        });
      } catch (error) {
        throw slugConflict(error, disk.slug);
      }
    },

    async commit(id, values, event) {
      return connection.transaction(() => {
        const changed = connection.run(
          "UPDATE disks SET state = 'ready', consistency = ?, allocated_bytes = ?, flattened_bytes = ?, exclusive_bytes = ?, inodes = ?, used_inodes = ?, usage_measured_at_ms = ? WHERE id = ? AND state = 'creating'",
          values.consistency,
          ...usageValues(values),
          id,
        );
        if (changed === 0) throw diskNotFound("disk", id);
        writeEvent(connection, event);
        finishScheduled(connection, mustGet(id));
        return mustGet(id);
      });
    },

    async withdraw(id) {
      return connection.transaction(() => {
        // Nothing of it is in the snapshot store yet.
        connection.run(
          "UPDATE disks SET state = 'purging', replication_state = 'local', replication_retry_at_ms = NULL WHERE id = ? AND state = 'creating'",
          id,
        );
        const disk = get(id);
        if (disk !== null && disk.state !== "purging") return disk;
        connection.run("DELETE FROM idempotency_keys WHERE object_id = ?", id);
        return null;
      });
    },

    async forget(id, event) {
      connection.transaction(() => {
        const changed = connection.run("DELETE FROM disks WHERE id = ? AND state = 'purging'", id);
        connection.run("DELETE FROM idempotency_keys WHERE object_id = ?", id);
        if (changed > 0 && event !== null) writeEvent(connection, event);
      });
    },

    async find(organizationId, kind, idOrSlug) {
      // The IN term repeats the condition of the partial index `disks_slug`, without which SQLite would not use it.
      const row =
        connection.get(
          "SELECT * FROM disks WHERE organization_id = ? AND kind = ? AND id = ? AND state = 'ready'",
          organizationId,
          kind,
          idOrSlug,
        ) ??
        connection.get(
          "SELECT * FROM disks WHERE organization_id = ? AND slug = ? AND kind = ? AND state IN ('creating', 'ready') AND state = 'ready'",
          organizationId,
          idOrSlug,
          kind,
        );
      return row === undefined ? null : toDisk(row);
    },

    async get(id) {
      return get(id);
    },

    async list(query) {
      if (!isSearchable(query.search ?? "")) return [];
      return connection.all(...listStatement(query)).map(toDisk);
    },

    async descendants(organizationId, id, limit) {
      return connection
        .all(
          `WITH RECURSIVE tree (id) AS (
             SELECT id FROM disks WHERE parent_id = ? UNION SELECT disks.id FROM disks JOIN tree ON disks.parent_id = tree.id
           )
           SELECT disks.* FROM tree CROSS JOIN disks USING (id)
           WHERE organization_id = ? AND state = 'ready' ORDER BY sequence LIMIT ?`,
          id,
          organizationId,
          limit,
        )
        .map(toDisk);
    },

    async delete(id, nowMs, purgeAtMs, event) {
      connection.transaction(() => {
        const disk = mustGet(id);
        if (disk.state !== "ready") throw diskNotFound(disk.kind, id);
        requireDetached("delete", disk);
        connection.run(
          "UPDATE disks SET state = 'deleted', deleted_at_ms = ?, purge_at_ms = ? WHERE id = ?",
          nowMs,
          purgeAtMs,
          id,
        );
        writeEvent(connection, event);
      });
    },

    async restore(id, slug, event) {
      try {
        return connection.transaction(() => {
          const changed = connection.run(
            "UPDATE disks SET state = 'ready', slug = ?, deleted_at_ms = NULL, purge_at_ms = NULL, is_automatic = 0 WHERE id = ? AND state = 'deleted' AND (lost_at_ms IS NULL OR replication_state = 'replicated')",
            slug,
            id,
          );
          if (changed === 0) throw diskNotFound("disk", id);
          writeEvent(connection, event);
          return mustGet(id);
        });
      } catch (error) {
        throw slugConflict(error, slug);
      }
    },

    async setLabels(id, labels, event) {
      return connection.transaction(() => {
        connection.run("UPDATE disks SET labels = ?, is_automatic = 0 WHERE id = ?", JSON.stringify(labels), id);
        writeEvent(connection, event);
        return mustGet(id);
      });
    },

    async recordError(id, { message, atMs }, event) {
      connection.transaction(() => {
        const sql = "UPDATE disks SET last_error = ?, last_error_at_ms = ? WHERE id = ?";
        if (connection.run(sql, message, atMs, id) > 0) writeEvent(connection, event);
      });
    },

    async acknowledgeError(id, event) {
      return connection.transaction(() => {
        const disk = mustGet(id);
        if (disk.state !== "ready") throw diskNotFound(disk.kind, id);
        if (disk.lastError === null) return disk;
        connection.run("UPDATE disks SET last_error = NULL, last_error_at_ms = NULL WHERE id = ?", id);
        writeEvent(connection, event);
        return mustGet(id);
      });
    },

    async setUsage(id, usage) {
      connection.run(
        `UPDATE disks SET allocated_bytes = ?, flattened_bytes = ?, exclusive_bytes = ?, inodes = ?, used_inodes = ?, usage_measured_at_ms = ?
         WHERE id = ? AND coalesce(usage_measured_at_ms, 0) <= ?`,
        ...usageValues(usage),
        id,
        usage.usageMeasuredAtMs ?? 0,
      );
    },

    async listUnmeasured(nodeId, regions, beforeMs, limit) {
      return connection
        .all(
          `SELECT * FROM disks WHERE state = 'ready' AND (usage_measured_at_ms IS NULL OR usage_measured_at_ms < ?)
             AND node_id = ? AND region IN (SELECT value FROM json_each(?)) ORDER BY usage_measured_at_ms LIMIT ?`,
          beforeMs,
          nodeId,
          JSON.stringify(regions),
          limit,
        )
        .map(toDisk);
    },

    async beginGrow(owner, id, growToBytes) {
      connection.transaction(() => {
        requireLatest(connection, owner);
        const disk = mustGet(id);
        if (disk.state !== "ready") throw diskNotFound(disk.kind, id);
        requireDetached("grow", disk);
        connection.run(
          "UPDATE disks SET grow_to_bytes = ?, node_generation = ? WHERE id = ?",
          growToBytes,
          owner.generation,
          id,
        );
      });
    },

    async finishGrow(id, usage, event) {
      return connection.transaction(() => {
        connection.run(
          `UPDATE disks SET capacity_bytes = coalesce(grow_to_bytes, capacity_bytes), grow_to_bytes = NULL,
             allocated_bytes = ?, flattened_bytes = ?, exclusive_bytes = ?, inodes = ?, used_inodes = ?, usage_measured_at_ms = ? WHERE id = ?`,
          ...usageValues(usage),
          id,
        );
        writeEvent(connection, event);
        return mustGet(id);
      });
    },

    async cancelGrow(id) {
      connection.run("UPDATE disks SET grow_to_bytes = NULL WHERE id = ?", id);
    },

    async beginPurge(owner, nowMs) {
      return connection.transaction(() => {
        requireLatest(connection, owner);
        connection.run(
          `UPDATE disks SET state = 'purging', node_generation = ? WHERE ${UNSETTLED} AND state = 'deleted' AND purge_at_ms <= ? AND node_id = ?`,
          owner.generation,
          nowMs,
          owner.nodeId,
        );
        return connection
          .all(
            `SELECT * FROM disks WHERE ${UNSETTLED} AND state = 'purging' AND node_id = ? ORDER BY sequence`,
            owner.nodeId,
          )
          .map(toDisk);
      });
    },

    async beginPurgeOf(owner, id) {
      return connection.transaction(() => {
        requireLatest(connection, owner);
        connection.run(
          "UPDATE disks SET state = 'purging', node_generation = ? WHERE id = ? AND state = 'deleted' AND node_id = ?",
          owner.generation,
          id,
          owner.nodeId,
        );
        const disk = get(id);
        return disk?.state === "purging" && disk.owner.nodeId === owner.nodeId ? disk : null;
      });
    },

    async listDeleted(nodeId, region, beforeMs, { limit, after }) {
      return connection
        .all(
          `SELECT * FROM disks WHERE ${UNSETTLED} AND state = 'deleted' AND node_id = ? AND region = ? AND deleted_at_ms < ?
             AND (deleted_at_ms, id) > (?, ?)
           ORDER BY deleted_at_ms, id LIMIT ?`,
          nodeId,
          region,
          beforeMs,
          after?.deletedAtMs ?? -1,
          after?.id ?? "",
          limit,
        )
        .map(toDisk);
    },

    async sumUsage(nodeId, region) {
      const row = connection.get(
        `SELECT
           coalesce(sum(exclusive_bytes) FILTER (WHERE kind = 'volume' AND state IN ('creating', 'ready')), 0) AS volumes,
           coalesce(sum(exclusive_bytes) FILTER (WHERE kind = 'snapshot' AND state IN ('creating', 'ready')), 0) AS snapshots,
           coalesce(sum(exclusive_bytes) FILTER (WHERE state IN ('deleted', 'purging')), 0) AS deleted
         FROM disk_totals WHERE node_id = ? AND region = ?`,
        nodeId,
        region,
      );
      return {
        volumesBytes: Number(row?.volumes),
        snapshotsBytes: Number(row?.snapshots),
        deletedBytes: Number(row?.deleted),
      };
    },

    async totals() {
      return connection
        .all("SELECT * FROM disk_totals WHERE disks > 0 ORDER BY node_id, region, kind, state")
        .map(toDiskTotal);
    },

    async listUnsettled(owner) {
      return connection
        .all(
          // With an OR of both, all disks would be read.
          `SELECT * FROM disks INDEXED BY disks_unsettled
           WHERE state IN ('creating', 'purging') AND ${UNSETTLED} AND node_id = ?1 AND node_generation < ?2
           UNION SELECT * FROM disks INDEXED BY disks_growing WHERE grow_to_bytes IS NOT NULL AND node_id = ?1 AND node_generation < ?2
           ORDER BY sequence`,
          owner.nodeId,
          owner.generation,
        )
        .map(toDisk);
    },

    async listIds(nodeId) {
      return connection
        .all("SELECT id, region FROM disks WHERE node_id = ?", nodeId)
        .map((row) => ({ id: String(row.id), region: String(row.region) }));
    },

    ...createReplicationStore(connection),
    ...createScheduleStore(connection, insert),
    ...createLostDiskStore(connection),
    ...createTakenDiskStore(connection),

    async expireIdempotencyKeys(beforeMs) {
      connection.run("DELETE FROM idempotency_keys WHERE created_at_ms < ?", beforeMs);
    },
  };
}

/** Terms and labels of ready disks go through the search index, in its own row order; deleted ones are few and gone after a day. */
function listStatement(query: DiskQuery): [string, ...(string | number)[]] {
  const expression = query.isDeleted ? null : searchExpression(query);
  const sequence = expression === null ? "disks.sequence" : "disk_search.rowid";
  const conditions = ["organization_id = ?", "kind = ?", "state = ?"];
  const values: (string | number)[] = [query.organizationId, query.kind, query.isDeleted ? "deleted" : "ready"];
  if (query.beforeSequence !== undefined) {
    conditions.push(`${sequence} < ?`);
    values.push(query.beforeSequence);
  }
  if (expression !== null) {
    conditions.push("disk_search MATCH ?");
    values.push(expression);
  } else if (query.search !== undefined) {
    conditions.push("instr(disks.slug, ?) > 0");
    values.push(query.search.toLowerCase());
  }
  const labels = labelConditions("disks.labels", query.labels);
  conditions.push(...labels.conditions);
  values.push(...labels.values, query.limit);
  const source = expression === null ? "disks" : "disk_search CROSS JOIN disks ON disks.sequence = disk_search.rowid";
  return [
    `SELECT disks.* FROM ${source} WHERE ${conditions.join(" AND ")} ORDER BY ${sequence} DESC LIMIT ?`,
    ...values,
  ];
}

function usageValues(usage: DiskUsage): (number | null)[] {
  const { allocatedBytes, flattenedBytes, exclusiveBytes, inodes, usedInodes, usageMeasuredAtMs } = usage;
  return [allocatedBytes, flattenedBytes, exclusiveBytes, inodes, usedInodes, usageMeasuredAtMs];
}

function slugConflict(error: unknown, slug: string): unknown {
  return isUniqueViolation(error, "disks.slug") ? slugTaken(slug, error) : error;
}
