import type { NewDisk, Owner } from "../store.ts";
import type { Queries } from "./database.ts";
import { labelWords } from "./label-words.ts";

/** Writes the row of a disk that is being made. `automatic`: a snapshot of a schedule, and whether it is to be uploaded; null: it is none. */
export async function insertDisk(
  queries: Queries,
  disk: NewDisk,
  owner: Owner,
  automatic: { readonly isReplicated: boolean } | null,
): Promise<void> {
  const isReplicated = automatic?.isReplicated === true;
  await queries.run(
    `INSERT INTO disks (kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, consistency, parent_kind, parent_id,
       parent_slug, base_snapshot_id, base_snapshot_slug, base_image_id, labels, label_words, created_at_ms, node_id, node_generation, every_ms, scheduled_at_ms,
       is_automatic, replication_state, replication_retry_at_ms)
     VALUES ($1, $2, $3, $4, $5, 'creating', $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)`,
    disk.kind,
    disk.id,
    disk.organizationId,
    disk.slug,
    disk.region,
    disk.capacityBytes,
    disk.isBootable,
    disk.consistency,
    disk.parent?.kind ?? null,
    disk.parent?.id ?? null,
    disk.parent?.slug ?? null,
    disk.baseSnapshot?.id ?? null,
    disk.baseSnapshot?.slug ?? null,
    disk.baseImageId,
    JSON.stringify(disk.labels),
    labelWords(disk.labels),
    disk.createdAtMs,
    owner.nodeId,
    owner.generation,
    disk.everyMs,
    disk.everyMs === null ? null : disk.createdAtMs + disk.everyMs,
    automatic !== null,
    isReplicated ? "uploading" : "local",
    isReplicated ? disk.createdAtMs : null,
  );
}
