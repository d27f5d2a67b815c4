import { classOfId, formatPeriod } from "@caisson/model";
import type {
  ExtendedSnapshot,
  ExtendedVolume,
  WireDescendant,
  WireSandbox,
  WireSnapshot,
  WireVolume,
} from "@caisson/protocol";
import type { Disk, SandboxRecord } from "../app/records.ts";
import type { FetchProgress } from "../app/replication/snapshot-fetches.ts";

/** The eight keys that the official clients know, and the `used` that the documentation's examples read (protocol.md 2.2). */
export function wireVolume(volume: Disk): WireVolume {
  return {
    id: volume.id,
    slug: volume.slug,
    region: volume.region,
    capacity: volume.capacityBytes,
    estimated_allocated_size: volume.allocatedBytes,
    estimated_flattened_size: volume.flattenedBytes,
    is_bootable: volume.isBootable,
    base_snapshot: volume.baseSnapshot === null ? null : { id: volume.baseSnapshot.id, slug: volume.baseSnapshot.slug },
    used: volume.flattenedBytes,
  };
}

/** What the row of a volume does not say. */
export interface VolumeSurroundings {
  readonly attachedTo: string | null;
  readonly unavailable: string | null;
  /** As of when the snapshot store has it. */
  readonly replicatedAtMs: number | null;
  /** Whether the server has a snapshot store. */
  readonly isReplicating: boolean;
}

export function extendedVolume(volume: Disk, around: VolumeSurroundings): ExtendedVolume {
  const { parent, everyMs, schedule } = volume;
  const { attachedTo, unavailable, replicatedAtMs, isReplicating } = around;
  return {
    ...wireVolume(volume),
    ...lifeOf(volume),
    node: volume.owner.nodeId,
    storage_class: classOfId(volume.id),
    attached_to: attachedTo,
    last_error:
      volume.lastError === null
        ? null
        : { message: volume.lastError.message, at: new Date(volume.lastError.atMs).toISOString() },
    unavailable,
    parent:
      parent === null
        ? null
        : { kind: parent.kind === "builtin" ? "image" : "snapshot", id: parent.id, slug: parent.slug },
    schedule:
      everyMs === null || schedule === null
        ? null
        : {
            every: formatPeriod(everyMs),
            next_at: new Date(schedule.nextAtMs).toISOString(),
            error: schedule.error,
            replicates: isReplicating,
          },
    replicated_at: isoOrNull(replicatedAtMs),
  };
}

export function wireSnapshot(snapshot: Disk): WireSnapshot {
  return {
    id: snapshot.id,
    slug: snapshot.slug,
    region: snapshot.region,
    allocated_size: snapshot.allocatedBytes,
    flattened_size: snapshot.flattenedBytes,
    is_bootable: snapshot.isBootable,
    volume: { id: snapshot.parent?.id ?? "", slug: snapshot.parent?.slug ?? "" },
  };
}

/** What the row of a snapshot does not say. */
export interface SnapshotSurroundings {
  readonly unavailable: string | null;
  /** Null: its image is not being fetched from the snapshot store. */
  readonly fetch: FetchProgress | null;
}

export function extendedSnapshot(snapshot: Disk, { unavailable, fetch }: SnapshotSurroundings): ExtendedSnapshot {
  return {
    ...wireSnapshot(snapshot),
    bootable: snapshot.isBootable,
    ...lifeOf(snapshot),
    node: snapshot.owner.nodeId,
    storage_class: classOfId(snapshot.id),
    consistency: snapshot.consistency ?? "clean",
    base_snapshot: snapshot.baseSnapshot,
    unavailable,
    automatic: snapshot.isAutomatic,
    replication: replicationOf(snapshot),
    fetch:
      fetch === null
        ? null
        : { started_at: new Date(fetch.startedAtMs).toISOString(), done: fetch.doneBytes, total: fetch.totalBytes },
  };
}

function replicationOf({ replication }: Disk): ExtendedSnapshot["replication"] {
  const { state, atMs, result, error, retryAtMs } = replication;
  return {
    state,
    at: isoOrNull(atMs),
    bytes: result?.storedBytes ?? null,
    read: result?.readBytes ?? null,
    shared: result === null ? null : (result.sharedBytes ?? 0),
    sent: result?.sentBytes ?? null,
    manifest: result?.manifest ?? null,
    error,
    retry_at: state === "failed" ? isoOrNull(retryAtMs) : null,
  };
}

export function descendant(disk: Disk): WireDescendant {
  return {
    kind: disk.kind,
    id: disk.id,
    slug: disk.slug,
    region: disk.region,
    created_at: new Date(disk.createdAtMs).toISOString(),
    parent_id: disk.parent?.id ?? "",
  };
}

/** The list's form knows two states: a sandbox that starts or ends still runs. */
export function wireSandbox(sandbox: SandboxRecord): WireSandbox {
  return {
    id: sandbox.id,
    createdAt: new Date(sandbox.createdAtMs).toISOString(),
    stoppedAt: isoOrNull(sandbox.stoppedAtMs),
    region: sandbox.region,
    status: sandbox.status === "stopped" ? "stopped" : "running",
    labels: { ...sandbox.labels },
  };
}

function lifeOf(disk: Disk) {
  return {
    exclusive: disk.exclusiveBytes,
    inodes: disk.inodes,
    used_inodes: disk.usedInodes,
    usage_measured_at: isoOrNull(disk.usageMeasuredAtMs),
    labels: { ...disk.labels },
    created_at: new Date(disk.createdAtMs).toISOString(),
    deleted_at: isoOrNull(disk.deletedAtMs),
    purge_at: isoOrNull(disk.purgeAtMs),
  };
}

function isoOrNull(timeMs: number | null): string | null {
  return timeMs === null ? null : new Date(timeMs).toISOString();
}
