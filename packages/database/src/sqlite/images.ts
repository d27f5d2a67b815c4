import { CaissonError, type Labels } from "@caisson/model";
import type {
  Consistency,
  IdempotencyClaim,
  ImageKind,
  ImageQuery,
  ImageRecord,
  ImageState,
  ImageStore,
  NewImage,
  ObjectReference,
  ParentReference,
} from "../store.ts";
import { type Connection, isUniqueViolation, type Row } from "./connection.ts";
import { isSearchable, searchExpression } from "./image-search.ts";
import { labelConditions } from "./labels.ts";

export function createImageStore(connection: Connection): ImageStore {
  const get = (id: string): ImageRecord | null => {
    const row = connection.get("SELECT * FROM images WHERE id = ?", id);
    return row === undefined ? null : toImage(row);
  };

  const mustGet = (id: string): ImageRecord => {
    const image = get(id);
    if (image === null) throw notFound("image", id);
    return image;
  };

  /** Throws `VOLUME_IN_USE` naming a sandbox that holds the volume. */
  const requireDetached = (verb: string, image: ImageRecord): void => {
    const holder = connection.get("SELECT sandbox_id FROM attachments WHERE volume_id = ? LIMIT 1", image.id);
    if (holder === undefined) return;
    throw new CaissonError(
      "VOLUME_IN_USE",
      `Cannot ${verb} volume ${JSON.stringify(image.slug)}: it is attached to sandbox ${holder.sandbox_id}. End that sandbox first`,
    );
  };

  const insert = (image: NewImage): void => {
    connection.run(
      `INSERT INTO images (kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, consistency, parent_kind, parent_id,
         parent_slug, base_snapshot_id, base_snapshot_slug, labels, created_at_ms)
       VALUES (?, ?, ?, ?, ?, 'creating', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      image.kind,
      image.id,
      image.organizationId,
      image.slug,
      image.region,
      image.capacityBytes,
      image.isBootable ? 1 : 0,
      image.consistency,
      image.parent?.kind ?? null,
      image.parent?.id ?? null,
      image.parent?.slug ?? null,
      image.baseSnapshot?.id ?? null,
      image.baseSnapshot?.slug ?? null,
      JSON.stringify(image.labels),
      image.createdAtMs,
    );
  };

  /** The object of an earlier request with the same key, or null when the key is new and now claimed for `image`. */
  const claimKey = (image: NewImage, claim: IdempotencyClaim): string | null => {
    const earlier = connection.get(
      "SELECT request_hash, object_id FROM idempotency_keys WHERE organization_id = ? AND key = ?",
      image.organizationId,
      claim.key,
    );
    if (earlier === undefined) {
      connection.run(
        "INSERT INTO idempotency_keys (organization_id, key, request_hash, object_id, created_at_ms) VALUES (?, ?, ?, ?, ?)",
        image.organizationId,
        claim.key,
        claim.requestHash,
        image.id,
        image.createdAtMs,
      );
      return null;
    }
    if (Buffer.compare(earlier.request_hash as Uint8Array, claim.requestHash) === 0) return String(earlier.object_id);
    throw new CaissonError(
      "IDEMPOTENCY_KEY_REUSED",
      `The idempotency key ${JSON.stringify(claim.key)} was used for a different request: use a new key`,
    );
  };

  return {
    async reserve(image, claim) {
      try {
        return connection.transaction(() => {
          const existingId = claim === undefined ? null : claimKey(image, claim);
          if (existingId === null) insert(image);
          return { existingId };
        });
      } catch (error) {
        throw slugConflict(error, image.slug);
      }
    },

    async commit(id, values) {
      return connection.transaction(() => {
        connection.run(
          "UPDATE images SET state = 'ready', consistency = ?, allocated_bytes = ?, flattened_bytes = ? WHERE id = ? AND state = 'creating'",
          values.consistency,
          values.allocatedBytes,
          values.flattenedBytes,
          id,
        );
        return mustGet(id);
      });
    },

    async forget(id) {
      connection.transaction(() => {
        connection.run("DELETE FROM images WHERE id = ? AND state IN ('creating', 'purging')", id);
        connection.run("DELETE FROM idempotency_keys WHERE object_id = ?", id);
      });
    },

    async find(organizationId, kind, idOrSlug) {
      // The IN term repeats the condition of the partial index `images_slug`, without which SQLite would not use it.
      const row =
        connection.get(
          "SELECT * FROM images WHERE organization_id = ? AND kind = ? AND id = ? AND state = 'ready'",
          organizationId,
          kind,
          idOrSlug,
        ) ??
        connection.get(
          "SELECT * FROM images WHERE organization_id = ? AND slug = ? AND kind = ? AND state IN ('creating', 'ready') AND state = 'ready'",
          organizationId,
          idOrSlug,
          kind,
        );
      return row === undefined ? null : toImage(row);
    },

    async get(id) {
      return get(id);
    },

    async list(query) {
      if (!isSearchable(query.search ?? "")) return [];
      return connection.all(...listStatement(query)).map(toImage);
    },

    async descendants(organizationId, id, limit) {
      return connection
        .all(
          `WITH RECURSIVE tree (id) AS (
             SELECT id FROM images WHERE parent_id = ? UNION SELECT images.id FROM images JOIN tree ON images.parent_id = tree.id
           )
           SELECT images.* FROM images JOIN tree USING (id)
           WHERE organization_id = ? AND state = 'ready' ORDER BY sequence LIMIT ?`,
          id,
          organizationId,
          limit,
        )
        .map(toImage);
    },

    async delete(id, nowMs, purgeAtMs) {
      connection.transaction(() => {
        const image = mustGet(id);
        if (image.state !== "ready") throw notFound(image.kind, id);
        requireDetached("delete", image);
        connection.run(
          "UPDATE images SET state = 'deleted', deleted_at_ms = ?, purge_at_ms = ? WHERE id = ?",
          nowMs,
          purgeAtMs,
          id,
        );
      });
    },

    async restore(id, slug) {
      try {
        return connection.transaction(() => {
          const changed = connection.run(
            "UPDATE images SET state = 'ready', slug = ?, deleted_at_ms = NULL, purge_at_ms = NULL WHERE id = ? AND state = 'deleted'",
            slug,
            id,
          );
          if (changed === 0) throw notFound("image", id);
          return mustGet(id);
        });
      } catch (error) {
        throw slugConflict(error, slug);
      }
    },

    async setLabels(id, labels) {
      return connection.transaction(() => {
        connection.run("UPDATE images SET labels = ? WHERE id = ?", JSON.stringify(labels), id);
        return mustGet(id);
      });
    },

    async setUsage(id, usage) {
      connection.run(
        "UPDATE images SET allocated_bytes = ?, flattened_bytes = ? WHERE id = ?",
        usage.allocatedBytes,
        usage.flattenedBytes,
        id,
      );
    },

    async beginGrow(id, growToBytes) {
      connection.transaction(() => {
        const image = mustGet(id);
        if (image.state !== "ready") throw notFound(image.kind, id);
        requireDetached("grow", image);
        connection.run("UPDATE images SET grow_to_bytes = ? WHERE id = ?", growToBytes, id);
      });
    },

    async finishGrow(id, usage) {
      return connection.transaction(() => {
        connection.run(
          `UPDATE images SET capacity_bytes = coalesce(grow_to_bytes, capacity_bytes), grow_to_bytes = NULL,
             allocated_bytes = ?, flattened_bytes = ? WHERE id = ?`,
          usage.allocatedBytes,
          usage.flattenedBytes,
          id,
        );
        return mustGet(id);
      });
    },

    async cancelGrow(id) {
      connection.run("UPDATE images SET grow_to_bytes = NULL WHERE id = ?", id);
    },

    async beginPurge(nowMs) {
      return connection.transaction(() => {
        connection.run("UPDATE images SET state = 'purging' WHERE state = 'deleted' AND purge_at_ms <= ?", nowMs);
        return connection.all("SELECT * FROM images WHERE state = 'purging' ORDER BY sequence").map(toImage);
      });
    },

    async listUnsettled() {
      return connection
        .all(
          "SELECT * FROM images WHERE state IN ('creating', 'purging') OR grow_to_bytes IS NOT NULL ORDER BY sequence",
        )
        .map(toImage);
    },

    async listIds() {
      return connection
        .all("SELECT id, region FROM images")
        .map((row) => ({ id: String(row.id), region: String(row.region) }));
    },

    async expireIdempotencyKeys(beforeMs) {
      connection.run("DELETE FROM idempotency_keys WHERE created_at_ms < ?", beforeMs);
    },
  };
}

/** Terms and labels of ready images go through the search index, in its own row order; deleted ones are few and gone after a day. */
function listStatement(query: ImageQuery): [string, ...(string | number)[]] {
  const expression = query.isDeleted ? null : searchExpression(query);
  const sequence = expression === null ? "images.sequence" : "image_search.rowid";
  const conditions = ["organization_id = ?", "kind = ?", "state = ?"];
  const values: (string | number)[] = [query.organizationId, query.kind, query.isDeleted ? "deleted" : "ready"];
  if (query.beforeSequence !== undefined) {
    conditions.push(`${sequence} < ?`);
    values.push(query.beforeSequence);
  }
  if (expression !== null) {
    conditions.push("image_search MATCH ?");
    values.push(expression);
  } else if (query.search !== undefined) {
    conditions.push("instr(images.slug, ?) > 0");
    values.push(query.search.toLowerCase());
  }
  const labels = labelConditions("images.labels", query.labels);
  conditions.push(...labels.conditions);
  values.push(...labels.values, query.limit);
  const source =
    expression === null ? "images" : "image_search CROSS JOIN images ON images.sequence = image_search.rowid";
  return [
    `SELECT images.* FROM ${source} WHERE ${conditions.join(" AND ")} ORDER BY ${sequence} DESC LIMIT ?`,
    ...values,
  ];
}

function toImage(row: Row): ImageRecord {
  return {
    sequence: Number(row.sequence),
    kind: row.kind as ImageKind,
    id: String(row.id),
    organizationId: String(row.organization_id),
    slug: String(row.slug),
    region: String(row.region),
    state: row.state as ImageState,
    capacityBytes: Number(row.capacity_bytes),
    growToBytes: row.grow_to_bytes as number | null,
    isBootable: row.is_bootable === 1,
    consistency: row.consistency as Consistency | null,
    parent: toReference<ParentReference>(row, "parent"),
    baseSnapshot: toReference<ObjectReference>(row, "base_snapshot"),
    labels: JSON.parse(String(row.labels)) as Labels,
    allocatedBytes: Number(row.allocated_bytes),
    flattenedBytes: Number(row.flattened_bytes),
    createdAtMs: Number(row.created_at_ms),
    deletedAtMs: row.deleted_at_ms as number | null,
    purgeAtMs: row.purge_at_ms as number | null,
  };
}

function toReference<T extends ObjectReference>(row: Row, prefix: "parent" | "base_snapshot"): T | null {
  const id = row[`${prefix}_id`];
  if (id === null) return null;
  const reference = { id, slug: row[`${prefix}_slug`] };
  return (prefix === "parent" ? { kind: row.parent_kind, ...reference } : reference) as T;
}

function notFound(kind: ImageKind | "image", id: string): CaissonError {
  const code = kind === "snapshot" || id.startsWith("snp_") ? "SNAPSHOT_NOT_FOUND" : "VOLUME_NOT_FOUND";
  return new CaissonError(code, `There is no such ${kind}: ${JSON.stringify(id)}`);
}

function slugConflict(error: unknown, slug: string): unknown {
  if (!isUniqueViolation(error, "images.slug")) return error;
  return new CaissonError(
    "SLUG_ALREADY_IN_USE",
    `The slug ${JSON.stringify(slug)} is already in use by a volume or snapshot of this organization: choose another, or delete that one first`,
    { cause: error },
  );
}
