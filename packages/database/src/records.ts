import type { Labels } from "@caisson/model";
import { beingTakenOver, diskLost, diskNotFound, isLost } from "./refusals.ts";
import type {
  AuditEvent,
  Authority,
  Consistency,
  Disk,
  DiskKind,
  DiskPlace,
  DiskState,
  DiskTotal,
  ForgottenNode,
  FreeBytes,
  JoinToken,
  KeyRotationState,
  NodeLoss,
  NodeRecord,
  ObjectReference,
  Organization,
  Owner,
  ParentReference,
  Replication,
  ReplicationState,
  SandboxRecord,
  SandboxStatus,
  Schedule,
  ScheduleTotals,
  SharedPools,
  SnapshotStoreRecord,
  SshKey,
  Token,
  UploadTotals,
} from "./store.ts";

/**
 * A row of a table, by column. Both databases have the same columns and give times and sizes as numbers, JSON as its text, and what is absent as
 * null; a statement of yes or no is 1 or 0 in SQLite.
 */
export type Row = Readonly<Record<string, unknown>>;

export function toOrganization(row: Row): Organization {
  return { id: String(row.id), slug: String(row.slug), createdAtMs: Number(row.created_at_ms) };
}

export function toToken(row: Row): Token {
  return {
    id: String(row.id),
    organizationId: String(row.organization_id),
    name: String(row.name),
    createdAtMs: Number(row.created_at_ms),
  };
}

export function toSshKey(row: Row): SshKey {
  return {
    id: String(row.id),
    organizationId: String(row.organization_id),
    name: String(row.name),
    type: String(row.type),
    publicKey: String(row.public_key),
    fingerprint: String(row.fingerprint),
    createdAtMs: Number(row.created_at_ms),
  };
}

/** A token and whose it is, from one joined row. */
export function toTokenOwner(row: Row): { readonly token: Token; readonly organization: Organization } {
  const organization = {
    id: String(row.organization_id),
    slug: String(row.organization_slug),
    createdAtMs: Number(row.organization_created_at_ms),
  };
  return { token: toToken(row), organization };
}

export function toNode(row: Row): NodeRecord {
  return {
    id: String(row.id),
    regions: JSON.parse(String(row.regions)) as string[],
    address: String(row.address),
    labels: JSON.parse(String(row.labels)) as Labels,
    capacity: { places: Number(row.places), memoryMib: row.memory_mib as number | null },
    reserved: { places: Number(row.reserved_places), memoryMib: Number(row.reserved_memory_mib) },
    runId: String(row.run_id),
    generation: Number(row.generation),
    isDraining: Boolean(row.is_draining),
    isLive: Boolean(row.is_live),
    leaseUntilMs: Number(row.lease_until_ms),
    startedAtMs: Number(row.started_at_ms),
    seenAtMs: Number(row.seen_at_ms),
    freeBytes: JSON.parse(String(row.free_bytes)) as FreeBytes,
    certificateUntilMs: row.certificate_until_ms as number | null,
    certificateAuthority: row.certificate_authority as number | null,
    oldestAuthority: row.oldest_authority as number | null,
    lostAtMs: row.lost_at_ms as number | null,
    sharedPools: JSON.parse(String(row.shared_pools)) as SharedPools,
    isShutOut: row.shut_out_generation !== null && Number(row.shut_out_generation) === Number(row.generation),
  };
}

/** Of the row of a node: it is on another machine and not lost. Its address is `HOST:PORT` then, and no port is in that of a node in a server's own process. */
export const IS_REMOTE =
  "lost_at_ms IS NULL AND (address LIKE '[%]:%' OR address LIKE '%:%' AND address NOT LIKE '%:%:%')";

export function toForgottenNode(row: Row): ForgottenNode {
  return { id: String(row.id), address: String(row.address), forgottenAtMs: Number(row.forgotten_at_ms) };
}

export function toAuthority(row: Row): Authority {
  return {
    number: Number(row.number),
    certificate: String(row.certificate),
    privateKey: row.private_key as string | null,
  };
}

export function toJoinToken(row: Row): JoinToken {
  return {
    id: String(row.id),
    region: row.region as string | null,
    createdAtMs: Number(row.created_at_ms),
    expiresAtMs: Number(row.expires_at_ms),
    nodeId: row.node_id as string | null,
  };
}

export function ownerOf({ id, generation }: NodeRecord): Owner {
  return { nodeId: id, generation };
}

function toOwner(row: Row): Owner {
  return { nodeId: String(row.node_id), generation: Number(row.node_generation) };
}

export function toDisk(row: Row): Disk {
  return {
    sequence: Number(row.sequence),
    kind: row.kind as DiskKind,
    id: String(row.id),
    owner: toOwner(row),
    organizationId: String(row.organization_id),
    slug: String(row.slug),
    region: String(row.region),
    state: row.state as DiskState,
    capacityBytes: Number(row.capacity_bytes),
    growToBytes: row.grow_to_bytes as number | null,
    isBootable: Boolean(row.is_bootable),
    consistency: row.consistency as Consistency | null,
    parent: toReference<ParentReference>(row, "parent"),
    baseSnapshot: toReference<ObjectReference>(row, "base_snapshot"),
    baseImageId: row.base_image_id as string | null,
    labels: JSON.parse(String(row.labels)) as Labels,
    allocatedBytes: Number(row.allocated_bytes),
    flattenedBytes: Number(row.flattened_bytes),
    exclusiveBytes: Number(row.exclusive_bytes),
    inodes: row.inodes as number | null,
    usedInodes: row.used_inodes as number | null,
    usageMeasuredAtMs: row.usage_measured_at_ms as number | null,
    createdAtMs: Number(row.created_at_ms),
    deletedAtMs: row.deleted_at_ms as number | null,
    purgeAtMs: row.purge_at_ms as number | null,
    lostAtMs: row.lost_at_ms as number | null,
    takenFrom: JSON.parse(String(row.taken_from)) as string[],
    replication: toReplication(row),
    everyMs: row.every_ms as number | null,
    schedule: toSchedule(row),
    isAutomatic: Boolean(row.is_automatic),
    lastError: row.last_error === null ? null : { message: String(row.last_error), atMs: Number(row.last_error_at_ms) },
  };
}

/** Where a disk is that a sandbox is to have. Throws `*_NOT_FOUND` for one that is not ready, `DISK_LOST`, and `NODE_UNAVAILABLE` while its former node may still write to it. */
export function toDiskPlace(kind: DiskKind, id: string, row: Row | undefined): DiskPlace {
  if (row?.state !== "ready") throw diskNotFound(kind, id);
  const nodeId = String(row.node_id);
  const lostAtMs = row.lost_at_ms as number | null;
  const replication = { state: row.replication_state as ReplicationState };
  if (isLost({ lostAtMs, replication })) throw diskLost({ id, owner: { nodeId }, lostAtMs });
  if (String(row.taken_from) !== "[]") throw beingTakenOver(id, nodeId);
  return { id, slug: String(row.slug), nodeId };
}

/** What the column `replication_detail` has. */
type ReplicationDetail = Partial<Pick<Replication, "result" | "error" | "attempts">>;

function toReplication(row: Row): Replication {
  const { result = null, error = null, attempts = 0 } = JSON.parse(String(row.replication_detail)) as ReplicationDetail;
  return {
    state: row.replication_state as ReplicationState,
    atMs: row.replication_at_ms as number | null,
    retryAtMs: row.replication_retry_at_ms as number | null,
    ...{ result, error, attempts },
  };
}

function toSchedule(row: Row): Schedule | null {
  if (row.every_ms === null) return null;
  const { error = null, attempts = 0 } = JSON.parse(String(row.schedule_detail)) as Partial<Schedule>;
  return { nextAtMs: Number(row.scheduled_at_ms), error, attempts };
}

export function toScheduleTotals(row: Row | undefined): ScheduleTotals {
  return {
    volumes: Number(row?.volumes),
    failing: Number(row?.failing),
    late: Number(row?.late),
    oldestReplicatedAtMs: (row?.oldest_ms ?? null) as number | null,
  };
}

export function toUploadTotals(row: Row | undefined): UploadTotals {
  return {
    waiting: Number(row?.waiting),
    failing: Number(row?.failing),
    oldestAtMs: (row?.oldest_ms ?? null) as number | null,
  };
}

export function toKeyRotationColumn(state: KeyRotationState | null | undefined): string | null {
  return state === null || state === undefined ? null : JSON.stringify(state);
}

export function toSnapshotStoreRecord(row: Row | undefined): SnapshotStoreRecord {
  if (row === undefined) return { keyFingerprint: null, storeId: null, marks: [], keyRotation: null };
  return {
    keyFingerprint: row.key_fingerprint as string | null,
    storeId: row.store_id as string | null,
    marks: JSON.parse(String(row.marks)) as string[],
    keyRotation: row.key_rotation === null ? null : (JSON.parse(String(row.key_rotation)) as KeyRotationState),
  };
}

export function toDiskTotal(row: Row): DiskTotal {
  return {
    nodeId: String(row.node_id),
    region: String(row.region),
    kind: row.kind as DiskKind,
    state: row.state as DiskState,
    count: Number(row.disks),
    exclusiveBytes: Number(row.exclusive_bytes),
  };
}

function toReference<T extends ObjectReference>(row: Row, prefix: "parent" | "base_snapshot"): T | null {
  const id = row[`${prefix}_id`];
  if (id === null) return null;
  const reference = { id, slug: row[`${prefix}_slug`] };
  return (prefix === "parent" ? { kind: row.parent_kind, ...reference } : reference) as T;
}

export function toSandbox(row: Row): SandboxRecord {
  return {
    sequence: Number(row.sequence),
    id: String(row.id),
    owner: toOwner(row),
    organizationId: String(row.organization_id),
    region: String(row.region),
    status: row.status as SandboxStatus,
    stopReason: row.stop_reason as string | null,
    damages: JSON.parse(String(row.damages)) as string[],
    labels: JSON.parse(String(row.labels)) as Labels,
    memoryMib: Number(row.memory_mib),
    createdAtMs: Number(row.created_at_ms),
    stopAtMs: row.stop_at_ms as number | null,
    stoppedAtMs: row.stopped_at_ms as number | null,
    keepUntilMs: row.keep_until_ms as number | null,
  };
}

export function toEvent(row: Row): AuditEvent {
  return {
    organizationId: String(row.organization_id),
    atMs: Number(row.at_ms),
    actor: String(row.actor),
    verb: String(row.verb),
    objectId: String(row.object_id),
    outcome: String(row.outcome),
    detail: JSON.parse(String(row.detail)) as Record<string, unknown>,
  };
}

/** What would be lost with a node, of its row of counts and the rows of its volumes' names. */
export function toNodeLoss(counts: Row | undefined, names: readonly Row[]): NodeLoss {
  return {
    volumes: Number(counts?.volumes),
    snapshots: Number(counts?.snapshots),
    replicatedSnapshots: Number(counts?.replicated_snapshots),
    sandboxes: Number(counts?.sandboxes),
    volumeNames: names.map(({ organization, slug }) => ({ organization: String(organization), slug: String(slug) })),
  };
}
