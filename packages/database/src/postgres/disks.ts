import { ownerOf, toDisk, toDiskTotal, toNode } from "../records.ts";
import { diskInUse, diskNotFound, keyReused, notLatest, regionUnavailable, slugTaken } from "../refusals.ts";
import { isSearchable } from "../search-term.ts";
import type { AuditEvent, Disk, DiskQuery, DiskStore, DiskUsage, IdempotencyKey, NewDisk, Owner } from "../store.ts";
import { requireOwn } from "../take-over.ts";
import type { Database, Queries, Value } from "./database.ts";
import { changeWithEvent, writeEvent } from "./events.ts";
import { isViolation } from "./failures.ts";
import { insertDisk } from "./insert-disk.ts";
import { labelWords } from "./label-words.ts";
import { listStatement, SAMPLE_SQL } from "./list-statement.ts";
import { createLostDiskStore } from "./lost-disks.ts";
import { NODE_COLUMNS, NOW_MS, requireLatest } from "./nodes.ts";
import { createReplicationStore } from "./replication.ts";
import { createScheduleStore, finishScheduled } from "./schedules.ts";
import { createTakenDiskStore } from "./taken-disks.ts";

const SET_USAGE =
  "allocated_bytes = $1, flattened_bytes = $2, exclusive_bytes = $3, inodes = $4, used_inodes = $5, usage_measured_at_ms = $6";

export function createDiskStore(database: Database): DiskStore {
  const readDisks = async (sql: string, ...values: readonly Value[]): Promise<readonly Disk[]> =>
    (await database.read((queries) => queries.all(sql, ...values))).map(toDisk);

  const get = async (queries: Queries, id: string): Promise<Disk | null> => {
    const row = await queries.get("SELECT * FROM disks WHERE id = $1", id);
    return row === undefined ? null : toDisk(row);
  };

  /** The disk, which stays as it is until the transaction ends. */
  const lock = async (queries: Queries, id: string): Promise<Disk> => {
    const row = await queries.get("SELECT * FROM disks WHERE id = $1 FOR NO KEY UPDATE", id);
    if (row === undefined) throw diskNotFound("disk", id);
    return toDisk(row);
  };

  const lockReady = async (queries: Queries, id: string): Promise<Disk> => {
    const disk = await lock(queries, id);
    if (disk.state !== "ready") throw diskNotFound(disk.kind, id);
    return disk;
  };

  /** Throws `VOLUME_IN_USE` naming a sandbox that holds the volume, whose row is locked. */
  const requireDetached = async (queries: Queries, verb: string, disk: Disk): Promise<void> => {
    const holder = await queries.get("SELECT sandbox_id FROM holds WHERE volume_id = $1 LIMIT 1", disk.id);
    if (holder !== undefined) throw diskInUse(verb, disk, String(holder.sandbox_id));
  };

  /** Changes one disk and tells of it. Throws `*_NOT_FOUND` when the statement finds none. */
  const change = async (
    queries: Queries,
    id: string,
    sql: string,
    values: readonly Value[],
    event: AuditEvent,
  ): Promise<Disk> => {
    const row = await changeWithEvent(queries, sql, values, event);
    if (row === undefined) throw diskNotFound("disk", id);
    return toDisk(row);
  };

  /** Where a disk is made that may be made anywhere in its region. The node begins no other run until the transaction ends. */
  const chooseNode = async (
    queries: Queries,
    region: string,
    own: Owner | null,
    unreachable: readonly string[],
  ): Promise<Owner> => {
    const row = await queries.get(
      `SELECT ${NODE_COLUMNS} FROM nodes WHERE regions::jsonb ? $1 AND (lease_until_ms > ${NOW_MS} OR id = $2) AND id <> ALL ($3::text[])
       ORDER BY is_draining, (free_bytes ->> $1)::bigint DESC NULLS LAST, id LIMIT 1 FOR KEY SHARE`,
      region,
      own?.nodeId ?? null,
      unreachable,
    );
    if (row !== undefined) return ownerOf(toNode(row));
    const nodes = await queries.all(`SELECT ${NODE_COLUMNS} FROM nodes WHERE regions::jsonb ? $1 ORDER BY id`, region);
    throw regionUnavailable("make anything", region, nodes.map(toNode));
  };

  /** The object of an earlier request with the same key, or null when the key is new and now taken by `disk`. */
  const takeKey = async (
    queries: Queries,
    disk: NewDisk,
    { key, requestHash }: IdempotencyKey,
  ): Promise<string | null> => {
    for (;;) {
      // Waits for a transaction that is just taking the key.
      const taken = await queries.run(
        `INSERT INTO idempotency_keys (organization_id, key, request_hash, object_id, created_at_ms) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING`,
        disk.organizationId,
        key,
        requestHash,
        disk.id,
        disk.createdAtMs,
      );
      if (taken > 0) return null;
      const earlier = await queries.get(
        "SELECT request_hash, object_id FROM idempotency_keys WHERE organization_id = $1 AND key = $2",
        disk.organizationId,
        key,
      );
      // It was given back in between.
      if (earlier === undefined) continue;
      if (Buffer.compare(earlier.request_hash as Uint8Array, requestHash) === 0) return String(earlier.object_id);
      throw keyReused(key);
    }
  };

  /** `deleted` to `purging`, for disks of the node for which a condition on `$3` holds. */
  const purgeWhere = async (queries: Queries, owner: Owner, condition: string, value: Value): Promise<void> => {
    await requireLatest(queries, owner);
    await queries.run(
      `UPDATE disks SET state = 'purging', node_generation = $1 WHERE state = 'deleted' AND node_id = $2 AND ${condition}`,
      owner.generation,
      owner.nodeId,
      value,
    );
  };

  /** Throws `SNAPSHOT_NOT_FOUND` when the snapshot that the disk is made from is deleted or gone. It is not until the row that keeps it is there. */
  const lockReadyParent = async (queries: Queries, { parent }: NewDisk): Promise<void> => {
    if (parent?.kind !== "snapshot") return;
    const ready = await queries.get("SELECT 1 FROM disks WHERE id = $1 AND state = 'ready' FOR SHARE", parent.id);
    if (ready === undefined) throw diskNotFound("snapshot", parent.slug);
  };

  return {
    async reserve(disk, key = null, { own = null, unreachable = [] } = {}) {
      try {
        return await database.transaction(async (queries) => {
          const existingId = key === null ? null : await takeKey(queries, disk, key);
          if (existingId !== null) return { existingId };
          const owner = disk.owner ?? (await chooseNode(queries, disk.region, own, unreachable));
          if (disk.owner !== null) await requireLatest(queries, owner);
          else if (owner.nodeId === own?.nodeId && owner.generation !== own.generation)
            throw notLatest(own, owner.generation);
          await lockReadyParent(queries, disk);
          await insertDisk(queries, disk, owner, null);
          return { existingId, owner };
        });
      } catch (error) {
        throw slugConflict(error, disk.slug);
      }
    },

    commit(id, values, event) {
      return database.transaction(async (queries) => {
        const committed = await change(
          queries,
          id,
          `UPDATE disks SET ${SET_USAGE}, state = 'ready', consistency = $7 WHERE id = $8 AND state = 'creating'`,
          [...usageValues(values), values.consistency, id],
          event,
        );
        return (await finishScheduled(queries, committed)) ? lock(queries, id) : committed;
      });
    },

    withdraw(id) {
      return database.transaction(async (queries) => {
        // Nothing of it is in the snapshot store yet.
        await queries.run(
          "UPDATE disks SET state = 'purging', replication_state = 'local', replication_retry_at_ms = NULL WHERE id = $1 AND state = 'creating'",
          id,
        );
        const disk = await get(queries, id);
        if (disk !== null && disk.state !== "purging") return disk;
        await queries.run("DELETE FROM idempotency_keys WHERE object_id = $1", id);
        return null;
      });
    },

    async forget(id, event) {
      await database.transaction(async (queries) => {
        const changed = await queries.run("DELETE FROM disks WHERE id = $1 AND state = 'purging'", id);
        await queries.run("DELETE FROM idempotency_keys WHERE object_id = $1", id);
        if (changed > 0 && event !== null) await writeEvent(queries, event);
      });
    },

    async find(organizationId, kind, idOrSlug) {
      // The IN term repeats the condition of the partial index `disks_slug`, without which it would not be used. An id comes before a slug.
      const [disk] = await readDisks(
        `SELECT * FROM (
           SELECT * FROM disks WHERE id = $3 AND organization_id = $1 AND kind = $2 AND state = 'ready'
           UNION ALL
           SELECT * FROM disks WHERE organization_id = $1 AND slug = $3 AND kind = $2 AND state IN ('creating', 'ready') AND state = 'ready'
         ) AS found ORDER BY id <> $3 LIMIT 1`,
        organizationId,
        kind,
        idOrSlug,
      );
      return disk ?? null;
    },

    get(id) {
      return database.read((queries) => get(queries, id));
    },

    async list(query: DiskQuery) {
      const { search = "", isDeleted } = query;
      if (!isSearchable(search)) return [];
      const isTerm = search !== "" && !isDeleted;
      const rows = await database.read(async (queries) => {
        const sample = isTerm ? await queries.get(SAMPLE_SQL) : undefined;
        return queries.allPlannedAnew(...listStatement(query, (sample?.slugs ?? []) as string[]));
      });
      return rows.map(toDisk);
    },

    descendants(organizationId, id, limit) {
      return readDisks(
        `WITH RECURSIVE tree (id) AS (
           SELECT id FROM disks WHERE parent_id = $2 UNION SELECT disks.id FROM disks JOIN tree ON disks.parent_id = tree.id
         )
         SELECT disks.* FROM disks JOIN tree USING (id)
         WHERE organization_id = $1 AND state = 'ready' ORDER BY sequence LIMIT $3`,
        organizationId,
        id,
        limit,
      );
    },

    async delete(id, nowMs, purgeAtMs, event) {
      await database.transaction(async (queries) => {
        await requireDetached(queries, "delete", await lockReady(queries, id));
        const sql = "UPDATE disks SET state = 'deleted', deleted_at_ms = $1, purge_at_ms = $2 WHERE id = $3";
        await change(queries, id, sql, [nowMs, purgeAtMs, id], event);
      });
    },

    async restore(id, slug, event) {
      try {
        return await database.transaction((queries) =>
          change(
            queries,
            id,
            "UPDATE disks SET state = 'ready', slug = $1, deleted_at_ms = NULL, purge_at_ms = NULL, is_automatic = FALSE WHERE id = $2 AND state = 'deleted' AND (lost_at_ms IS NULL OR replication_state = 'replicated')",
            [slug, id],
            event,
          ),
        );
      } catch (error) {
        throw slugConflict(error, slug);
      }
    },

    setLabels(id, labels, event) {
      return database.transaction((queries) =>
        change(
          queries,
          id,
          "UPDATE disks SET labels = $1, label_words = $2, is_automatic = FALSE WHERE id = $3",
          [JSON.stringify(labels), labelWords(labels), id],
          event,
        ),
      );
    },

    async recordError(id, { message, atMs }, event) {
      const sql = "UPDATE disks SET last_error = $1, last_error_at_ms = $2 WHERE id = $3";
      await database.transaction((queries) => changeWithEvent(queries, sql, [message, atMs, id], event));
    },

    acknowledgeError(id, event) {
      return database.transaction(async (queries) => {
        const disk = await lockReady(queries, id);
        if (disk.lastError === null) return disk;
        const sql = "UPDATE disks SET last_error = NULL, last_error_at_ms = NULL WHERE id = $1";
        return change(queries, id, sql, [id], event);
      });
    },

    async setUsage(id, usage) {
      await database.transaction((queries) =>
        queries.run(
          `UPDATE disks SET ${SET_USAGE} WHERE id = $7 AND coalesce(usage_measured_at_ms, 0) <= coalesce($6::bigint, 0)`,
          ...usageValues(usage),
          id,
        ),
      );
    },

    listUnmeasured(nodeId, regions, beforeMs, limit) {
      return readDisks(
        `SELECT * FROM disks WHERE state = 'ready' AND (usage_measured_at_ms IS NULL OR usage_measured_at_ms < $1) AND region = ANY ($2)
           AND node_id = $4
         ORDER BY usage_measured_at_ms NULLS FIRST LIMIT $3`,
        beforeMs,
        regions,
        limit,
        nodeId,
      );
    },

    async beginGrow(owner, id, growToBytes) {
      await database.transaction(async (queries) => {
        await requireLatest(queries, owner);
        const disk = await lockReady(queries, id);
        requireOwn("grow", disk, owner);
        await requireDetached(queries, "grow", disk);
        const sql = "UPDATE disks SET grow_to_bytes = $1, node_generation = $2 WHERE id = $3";
        await queries.run(sql, growToBytes, owner.generation, id);
      });
    },

    finishGrow(id, usage, event) {
      return database.transaction((queries) =>
        change(
          queries,
          id,
          `UPDATE disks SET ${SET_USAGE}, capacity_bytes = coalesce(grow_to_bytes, capacity_bytes), grow_to_bytes = NULL WHERE id = $7`,
          [...usageValues(usage), id],
          event,
        ),
      );
    },

    async cancelGrow(id) {
      await database.transaction((queries) => queries.run("UPDATE disks SET grow_to_bytes = NULL WHERE id = $1", id));
    },

    async beginPurge(owner, nowMs) {
      return database.transaction(async (queries) => {
        await purgeWhere(queries, owner, "purge_at_ms <= $3", nowMs);
        const sql = "SELECT * FROM disks WHERE state = 'purging' AND node_id = $1 ORDER BY sequence";
        return (await queries.all(sql, owner.nodeId)).map(toDisk);
      });
    },

    beginPurgeOf(owner, id) {
      return database.transaction(async (queries) => {
        await purgeWhere(queries, owner, "id = $3", id);
        const disk = await get(queries, id);
        return disk?.state === "purging" && disk.owner.nodeId === owner.nodeId ? disk : null;
      });
    },

    listDeleted(nodeId, region, beforeMs, { limit, after }) {
      return readDisks(
        `SELECT * FROM disks WHERE state = 'deleted' AND region = $1 AND deleted_at_ms < $2 AND (deleted_at_ms, id) > ($3, $4)
           AND node_id = $6
         ORDER BY deleted_at_ms, id LIMIT $5`,
        region,
        beforeMs,
        after?.deletedAtMs ?? -1,
        after?.id ?? "",
        limit,
        nodeId,
      );
    },

    async sumUsage(nodeId, region) {
      const row = await database.read((queries) =>
        queries.get(
          `SELECT
             coalesce(sum(exclusive_bytes) FILTER (WHERE kind = 'volume' AND state IN ('creating', 'ready')), 0) AS volumes,
             coalesce(sum(exclusive_bytes) FILTER (WHERE kind = 'snapshot' AND state IN ('creating', 'ready')), 0) AS snapshots,
             coalesce(sum(exclusive_bytes) FILTER (WHERE state IN ('deleted', 'purging')), 0) AS deleted
           FROM disk_totals WHERE node_id = $1 AND region = $2`,
          nodeId,
          region,
        ),
      );
      return {
        volumesBytes: Number(row?.volumes),
        snapshotsBytes: Number(row?.snapshots),
        deletedBytes: Number(row?.deleted),
      };
    },

    async totals() {
      const rows = await database.read((queries) =>
        queries.all(
          `SELECT node_id, region, kind, state, sum(disks) AS disks, sum(exclusive_bytes) AS exclusive_bytes FROM disk_totals
           GROUP BY node_id, region, kind, state HAVING sum(disks) > 0 ORDER BY node_id, region, kind, state`,
        ),
      );
      return rows.map(toDiskTotal);
    },

    listUnsettled(owner) {
      // Each part of the condition in brackets has an index of its own.
      return readDisks(
        `SELECT * FROM disks WHERE (state IN ('creating', 'purging') OR grow_to_bytes IS NOT NULL) AND node_id = $1 AND node_generation < $2
         ORDER BY sequence`,
        owner.nodeId,
        owner.generation,
      );
    },

    async listIds(nodeId) {
      const sql = "SELECT id, region FROM disks WHERE node_id = $1";
      const rows = await database.read((queries) => queries.all(sql, nodeId));
      return rows.map((row) => ({ id: String(row.id), region: String(row.region) }));
    },

    ...createReplicationStore(database),
    ...createScheduleStore(database),
    ...createLostDiskStore(database),
    ...createTakenDiskStore(database),

    async expireIdempotencyKeys(beforeMs) {
      await database.deleteAll("idempotency_keys", "created_at_ms < $1", beforeMs);
    },
  };
}

function usageValues(usage: DiskUsage): readonly (number | null)[] {
  const { allocatedBytes, flattenedBytes, exclusiveBytes, inodes, usedInodes, usageMeasuredAtMs } = usage;
  return [allocatedBytes, flattenedBytes, exclusiveBytes, inodes, usedInodes, usageMeasuredAtMs];
}

function slugConflict(error: unknown, slug: string): unknown {
  return isViolation(error, "disks_slug") ? slugTaken(slug, error) : error;
}
