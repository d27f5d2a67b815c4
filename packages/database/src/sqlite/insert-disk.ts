import type { NewDisk, Owner } from "../store.ts";
import type { Connection } from "./connection.ts";

/** `automatic`: a snapshot of a schedule, and whether it is to be uploaded; null: it is none. */
export type InsertDisk = (disk: NewDisk, owner: Owner, automatic: { readonly isReplicated: boolean } | null) => void;

/** Writes the row of a disk that is being made. */
export function diskInserter(connection: Connection): InsertDisk {
  return (disk, owner, automatic) => {
    const isReplicated = automatic?.isReplicated === true;
    connection.run(
      `INSERT INTO disks (kind, id, node_id, node_generation, organization_id, slug, region, state, capacity_bytes, is_bootable, consistency, parent_kind, parent_id,
         parent_slug, base_snapshot_id, base_snapshot_slug, base_image_id, labels, every_ms, scheduled_at_ms, is_automatic, replication_state, replication_retry_at_ms,
         created_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, 'creating', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      disk.kind,
      disk.id,
      owner.nodeId,
      owner.generation,
      disk.organizationId,
      disk.slug,
      disk.region,
      disk.capacityBytes,
      disk.isBootable ? 1 : 0,
      disk.consistency,
      disk.parent?.kind ?? null,
      disk.parent?.id ?? null,
      disk.parent?.slug ?? null,
      disk.baseSnapshot?.id ?? null,
      disk.baseSnapshot?.slug ?? null,
      disk.baseImageId,
      JSON.stringify(disk.labels),
      disk.everyMs,
      disk.everyMs === null ? null : disk.createdAtMs + disk.everyMs,
      automatic === null ? 0 : 1,
      isReplicated ? "uploading" : "local",
      isReplicated ? disk.createdAtMs : null,
      disk.createdAtMs,
    );
  };
}
