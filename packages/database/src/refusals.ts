import { CaissonError } from "@caisson/model";
import type { Row } from "./records.ts";
import type { Disk, DiskKind, NewNode, NodeRecord, Owner, Replication } from "./store.ts";

/** What a store refuses, in the same words whichever database it is. */

export function diskNotFound(kind: DiskKind | "disk", id: string): CaissonError {
  const code = kind === "snapshot" || id.startsWith("snp_") ? "SNAPSHOT_NOT_FOUND" : "VOLUME_NOT_FOUND";
  return new CaissonError(code, `There is no such ${kind}: ${JSON.stringify(id)}`);
}

export function diskInUse(verb: string, disk: Disk, sandboxId: string): CaissonError {
  return new CaissonError(
    "VOLUME_IN_USE",
    `Cannot ${verb} volume ${JSON.stringify(disk.slug)}: it is attached to sandbox ${sandboxId}. End that sandbox first`,
  );
}

export function slugTaken(slug: string, cause: unknown): CaissonError {
  return new CaissonError(
    "SLUG_ALREADY_IN_USE",
    `The slug ${JSON.stringify(slug)} is already in use by a volume or snapshot of this organization: choose another, or delete that one first`,
    { cause },
  );
}

export function keyReused(key: string): CaissonError {
  return new CaissonError(
    "IDEMPOTENCY_KEY_REUSED",
    `The idempotency key ${JSON.stringify(key)} was used for a different request: use a new key`,
  );
}

export function organizationSlugTaken(slug: string, cause: unknown): CaissonError {
  return new CaissonError(
    "SLUG_ALREADY_IN_USE",
    `There is already an organization ${JSON.stringify(slug)}: choose another slug`,
    { cause },
  );
}

export function sshKeyKnown(fingerprint: string, cause: unknown): CaissonError {
  return new CaissonError("INVALID_REQUEST", `The organization has the key ${fingerprint} already`, { cause });
}

export function notStarting(sandboxId: string): Error {
  return new Error(`The sandbox ${sandboxId} is not starting any more`);
}

export function nodeNotFound(id: string): CaissonError {
  return new CaissonError("NODE_NOT_FOUND", `There is no node ${JSON.stringify(id)}: list the nodes`);
}

const FORGOTTEN = (nodeId: string): string =>
  `The node ${nodeId} was forgotten, and may do nothing more. To have its machine as a new node, remove node.json from its data directory or join it again`;

export function nodeForgotten(nodeId: string): CaissonError {
  return new CaissonError("NODE_UNAVAILABLE", FORGOTTEN(nodeId));
}

/** `row`: what is stored of the node; undefined: nothing yet. Throws `NODE_UNAVAILABLE` for a node that says regions which the token with which it joined did not give it. */
export function requireOnlyRegion({ id, regions }: NewNode, row: Row | undefined): void {
  const only = row?.only_region ?? null;
  if (only === null || (regions.length === 1 && regions[0] === only)) return;
  throw new CaissonError(
    "NODE_UNAVAILABLE",
    `The node ${id} has joined with a token for region "${only}" alone, and says that it has ${JSON.stringify(regions).slice(0, 100)}: set regions = ["${only}"] in its settings, or let its machine join again with another token`,
  );
}

/** `action`: what cannot be done. `nodes`: those that could have it, if they were live and the caller could reach them. */
export function regionUnavailable(action: string, region: string, nodes: readonly NodeRecord[]): CaissonError {
  const seen = nodes.map(({ id, seenAtMs }) => `${id}, seen last at ${new Date(seenAtMs).toISOString()}`);
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot ${action} in region ${JSON.stringify(region)}: ${
      nodes.length === 0
        ? "it has no node. Choose a region of a node, which `caisson nodes list` shows"
        : `no node for it is live and reachable (${seen.join("; ")}). Try again later: an administrator sees with \`caisson nodes list\` why`
    }`,
  );
}

/** `latest`: the node's generation now; null: it was forgotten. */
export function notLatest({ nodeId, generation }: Owner, latest: number | null): CaissonError {
  return new CaissonError(
    "NODE_UNAVAILABLE",
    latest === null
      ? FORGOTTEN(nodeId)
      : `The node ${nodeId} has begun generation ${latest}, and this is generation ${generation}, which may do nothing more: another server has started with the same node.json. ` +
          "Stop one of the two, and give each machine a data directory of its own",
  );
}

/** Why a run of a node may do nothing more from which a disk was taken over. */
export function runShutOut(nodeId: string): CaissonError {
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `This run of node ${nodeId} was shut out of the replicated pool, because its lease had run out and another node has taken over what it had. Start the node again`,
  );
}

/** Why a disk cannot be used whose node has not shut the former one out yet. */
export function beingTakenOver(id: string, nodeId: string): CaissonError {
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot use ${id} yet: node ${nodeId} is taking it over, and has not shut the node out that had it before. Try again`,
  );
}

/** Why a disk cannot be used whose node was given up. */
export function diskLost({
  id,
  owner,
  lostAtMs,
}: Pick<Disk, "id" | "lostAtMs"> & { readonly owner: Pick<Owner, "nodeId"> }): CaissonError {
  const kind = id.startsWith("snp_") ? "snapshot" : "volume";
  return new CaissonError(
    "DISK_LOST",
    `Cannot use ${id}: it is lost, because the node ${owner.nodeId} that held it was forgotten on ${new Date(lostAtMs ?? 0).toISOString()}. ` +
      `Delete the ${kind} to have its slug free, and make another from a snapshot that is left or was exported`,
  );
}

/** Whether its image is lost, and there is no copy that it could come back from. */
export function isLost({
  lostAtMs,
  replication,
}: Pick<Disk, "lostAtMs"> & { readonly replication: Pick<Replication, "state"> }): boolean {
  return lostAtMs !== null && replication.state !== "replicated";
}

/** Why a node cannot be forgotten. `held`: the id of something that it has. */
export function nodeInUse({ id, isLive }: NodeRecord, held: string | null): CaissonError {
  return new CaissonError(
    "NODE_IN_USE",
    `Cannot forget node ${id}: ${
      isLive
        ? "it is live. Stop its server, and try again when its lease is over"
        : `it has ${held}. Start it again and purge what is on it; if it is lost for ever, say so: caisson nodes forget ${id} --lost`
    }`,
  );
}
