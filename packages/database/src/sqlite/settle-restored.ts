import type { Row } from "../records.ts";
import { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";

export interface RestoredFrom {
  /** When the backup was made. */
  readonly atMs: number;
  readonly backupId: string;
  /** What has a manifest in the snapshot store, as `ORGANIZATION/SNAPSHOT`. */
  readonly stored: ReadonlySet<string>;
  /** Those of `stored` that are not whole there. */
  readonly damaged: ReadonlySet<string>;
  /** Which nodes are gone with their pools. */
  isLost(node: { readonly id: string; readonly address: string }): boolean;
  /** The id of the node that takes their place, when there is to be one: of the lost ones, which are forgotten, or a new one. Null: each stays what it was. */
  readonly newNodeId: string | null;
}

/** A volume or snapshot that was on a lost node. */
export interface RestoredDisk {
  readonly kind: "volume" | "snapshot";
  readonly id: string;
  readonly slug: string;
  readonly organizationId: string;
  /** Its slug. */
  readonly organization: string;
  /**
   * `stored`: a snapshot that the store has. `damaged`: one that the store has, but not whole. `from-snapshot`: a volume that is made again of its newest one. `purged`: a snapshot that the store has no more. `lost`: it was in the pool alone.
   */
  readonly outcome: "stored" | "damaged" | "from-snapshot" | "purged" | "lost";
  /** Of `from-snapshot`. */
  readonly snapshot: { readonly id: string; readonly slug: string } | null;
  /** As of when what came back is; null: nothing did. */
  readonly atMs: number | null;
}

/** A snapshot that is replicated, and its node keeps what it has of it. */
export type KeptSnapshot = Pick<RestoredDisk, "id" | "slug" | "organizationId" | "organization">;

export interface RestoredRows {
  /** Of the lost nodes, without those that were deleted. */
  readonly disks: readonly RestoredDisk[];
  /** Sandboxes that were running then. */
  readonly endedSandboxes: number;
  /** Nodes of other machines, which keep what they have. */
  readonly keptNodes: readonly { readonly id: string; readonly address: string }[];
  /** Their snapshots that are replicated. */
  readonly keptSnapshots: readonly KeptSnapshot[];
  /** How many snapshots of the store the rows do not know: they came after the backup. */
  readonly unknownSnapshots: number;
}

/** Far more runs than a node begins between a backup and its end: nobody's generation comes twice. */
const GENERATIONS = 1_000_000;
/** How long what was deleted can be brought back from now on. */
const DELETED_MS = 24 * 3_600_000;

/**
 * Makes the rows of a backup true for the machine that they are restored to, in one transaction: brings them up to date, ends the sandboxes of lost nodes and frees what those held, and settles their disks. Snapshots that the store
 * has are replicated, whether the rows knew it or not; volumes stay when one of their snapshots is there, as of the newest that is whole, and say since when they lack what was written; other rows are deleted, each with a line in its organization's trail. What was deleted stays
 * deleted, for a while at least: somebody may have brought it back since. On nodes that go on, creations that were under way then have ended since, well or not: their rows go, and what they made is an image that the rows do not know, which is kept.
 * Run again on rows that it has settled, it finds the same, but for sandboxes and lost disks, which are gone.
 */
export function settleRestored(path: string, from: RestoredFrom): RestoredRows {
  using connection = new Connection(path);
  return connection.transaction(() => {
    const nodes = connection.all("SELECT id, address FROM nodes ORDER BY id").map(toNode);
    const known = new Set(connection.all("SELECT organization_id, id FROM disks").map(keyOf));
    const unknownSnapshots = [...from.stored].filter((key) => !known.has(key)).length;
    const lost = nodes.filter((node) => from.isLost(node));
    const lostIds = JSON.stringify(lost.map(({ id }) => id));
    const endedSandboxes = endSandboxes(connection, lostIds, from);
    forgetCreations(connection, lostIds);
    const disks = settleDisks(connection, lostIds, from);
    connection.run(
      "UPDATE disks SET purge_at_ms = max(purge_at_ms, ?) WHERE state = 'deleted'",
      Date.now() + DELETED_MS,
    );
    const keptSnapshots = listKeptSnapshots(connection, lostIds);
    connection.run(
      "UPDATE nodes SET generation = generation + ?1, shut_out_generation = shut_out_generation + ?1, lease_until_ms = 0",
      GENERATIONS,
    );
    if (from.newNodeId !== null) moveTo(connection, from.newNodeId, lostIds);
    const lostNodes = new Set(lost.map(({ id }) => id));
    const keptNodes = nodes.filter(({ id }) => !lostNodes.has(id));
    return { disks, endedSandboxes, keptNodes, keptSnapshots, unknownSnapshots };
  }, "restore-settle");
}

function endSandboxes(connection: Connection, lostIds: string, { atMs, backupId }: RestoredFrom): number {
  const condition = "status <> 'stopped' AND node_id IN (SELECT value FROM json_each(?))";
  for (const { id, organization_id } of connection.all(
    `SELECT id, organization_id FROM sandboxes WHERE ${condition}`,
    lostIds,
  ))
    tell(connection, String(organization_id), "sandbox-end", String(id), { reason: "node-lost", backup: backupId });
  connection.run(`DELETE FROM holds WHERE sandbox_id IN (SELECT id FROM sandboxes WHERE ${condition})`, lostIds);
  const count = connection.run(
    `UPDATE sandboxes SET status = 'stopped', stop_reason = coalesce(stop_reason, 'node-lost'), stopped_at_ms = ? WHERE ${condition}`,
    atMs,
    lostIds,
  );
  connection.run(
    "UPDATE nodes SET reserved_places = 0, reserved_memory_mib = 0 WHERE id IN (SELECT value FROM json_each(?))",
    lostIds,
  );
  return count;
}

/** A start of the node would delete what it finds in state `creating`, with the image; since the backup it may have become a volume that somebody uses. */
function forgetCreations(connection: Connection, lostIds: string): void {
  const sql = "SELECT id FROM disks WHERE state = 'creating' AND node_id NOT IN (SELECT value FROM json_each(?))";
  for (const { id } of connection.all(sql, lostIds)) deleteRow(connection, String(id));
}

function listKeptSnapshots(connection: Connection, lostIds: string): readonly KeptSnapshot[] {
  return connection
    .all(
      `SELECT disks.id, disks.slug, organization_id, organizations.slug AS organization_slug
       FROM disks JOIN organizations ON organizations.id = organization_id
       WHERE kind = 'snapshot' AND state = 'ready' AND replication_state = 'replicated' AND node_id NOT IN (SELECT value FROM json_each(?))
       ORDER BY sequence`,
      lostIds,
    )
    .map((row) => ({
      ...{ id: String(row.id), slug: String(row.slug) },
      ...{ organizationId: String(row.organization_id), organization: String(row.organization_slug) },
    }));
}

function settleDisks(connection: Connection, lostIds: string, from: RestoredFrom): readonly RestoredDisk[] {
  const rows = connection.all(
    `SELECT disks.*, organizations.slug AS organization_slug FROM disks JOIN organizations ON organizations.id = organization_id
     WHERE node_id IN (SELECT value FROM json_each(?)) ORDER BY kind, sequence`,
    lostIds,
  );
  const isStored = (row: Row) => from.stored.has(keyOf(row));
  const isWhole = (row: Row) => isStored(row) && !from.damaged.has(keyOf(row));
  const newest = new Map<string, Row>();
  // What is damaged may be mended there: it is better than none.
  for (const isWanted of [isStored, isWhole])
    for (const row of rows)
      if (row.kind === "snapshot" && row.state === "ready" && isWanted(row)) newest.set(String(row.parent_id), row);
  return rows.flatMap((row) => settleDisk(connection, row, isStored(row), newest.get(String(row.id)), from) ?? []);
}

/** Null: nobody misses it. */
function settleDisk(
  connection: Connection,
  row: Row,
  isStored: boolean,
  snapshot: Row | undefined,
  from: RestoredFrom,
): RestoredDisk | null {
  const id = String(row.id);
  const common = {
    kind: row.kind as "volume" | "snapshot",
    id,
    slug: String(row.slug),
    organizationId: String(row.organization_id),
    organization: String(row.organization_slug),
    snapshot: null,
  };
  // What was being purged is purged to its end by the next start, in the store too.
  if (row.state === "purging") return null;
  if (common.kind === "snapshot" && isStored && row.state !== "creating") {
    if (row.replication_state !== "replicated") {
      const result = { manifest: `manifests/${row.organization_id}/${id}`, storedBytes: 0, readBytes: 0, sentBytes: 0 };
      connection.run(
        "UPDATE disks SET replication_state = 'replicated', replication_at_ms = ?, replication_retry_at_ms = NULL, replication_detail = ? WHERE id = ?",
        from.atMs,
        JSON.stringify({ result }),
        id,
      );
    }
    if (row.state !== "ready") return null;
    const outcome = from.damaged.has(keyOf(row)) ? "damaged" : "stored";
    return { ...common, outcome, atMs: Number(row.created_at_ms) };
  }
  if (common.kind === "volume" && row.state === "ready" && snapshot !== undefined) {
    const atMs = Number(snapshot.created_at_ms);
    const found = { id: String(snapshot.id), slug: String(snapshot.slug) };
    connection.run(
      "UPDATE disks SET grow_to_bytes = NULL, base_image_id = ?, base_snapshot_id = ?, base_snapshot_slug = ?, usage_measured_at_ms = NULL, last_error = ?, last_error_at_ms = ? WHERE id = ?",
      ...[found.id, found.id, found.slug],
      `Its machine was lost. It was restored as of ${new Date(atMs).toISOString()}, from snapshot ${found.slug}: what was written later is lost`,
      Date.now(),
      id,
    );
    tell(connection, String(row.organization_id), "volume-restore-from-snapshot", id, {
      slug: row.slug,
      snapshotId: found.id,
      backup: from.backupId,
    });
    return { ...common, outcome: "from-snapshot", snapshot: found, atMs };
  }
  deleteRow(connection, id);
  if (row.state !== "ready") return null;
  const outcome = row.replication_state === "replicated" ? "purged" : "lost";
  const verb = outcome === "lost" ? `${common.kind}-lose` : "snapshot-purged";
  tell(connection, String(row.organization_id), verb, id, {
    slug: row.slug,
    backup: from.backupId,
  });
  return { ...common, outcome, atMs: null };
}

function deleteRow(connection: Connection, id: string): void {
  // It leaves the words to search by with its state.
  connection.run("UPDATE disks SET state = 'purging' WHERE id = ?", id);
  connection.run("DELETE FROM holds WHERE volume_id = ?", id);
  connection.run("DELETE FROM idempotency_keys WHERE object_id = ?", id);
  connection.run("DELETE FROM disks WHERE id = ?", id);
}

/** Everything of the lost nodes is the new one's, also what was lost with one of them before the backup; they are forgotten, so that none of them comes back as a node. */
function moveTo(connection: Connection, nodeId: string, lostIds: string): void {
  const isLost = "IN (SELECT value FROM json_each(?))";
  connection.run(
    `UPDATE disks SET lost_at_ms = NULL, purge_at_ms = iif(state = 'ready', NULL, purge_at_ms) WHERE node_id ${isLost}`,
    lostIds,
  );
  for (const table of ["disks", "sandboxes"])
    connection.run(`UPDATE ${table} SET node_id = ?, node_generation = 0 WHERE node_id ${isLost}`, nodeId, lostIds);
  connection.run(
    `INSERT OR IGNORE INTO forgotten_nodes (id) SELECT id FROM nodes WHERE id ${isLost} AND id <> ?`,
    lostIds,
    nodeId,
  );
  connection.run(`DELETE FROM nodes WHERE id ${isLost} AND id <> ?`, lostIds, nodeId);
}

function tell(
  connection: Connection,
  organizationId: string,
  verb: string,
  objectId: string,
  detail: Readonly<Record<string, unknown>>,
): void {
  writeEvent(connection, { organizationId, atMs: Date.now(), actor: "server", verb, objectId, outcome: "ok", detail });
}

/** As `RestoredFrom.stored` has it. */
function keyOf({ organization_id, id }: Row): string {
  return `${organization_id}/${id}`;
}

function toNode(row: Row): { readonly id: string; readonly address: string } {
  return { id: String(row.id), address: String(row.address) };
}
