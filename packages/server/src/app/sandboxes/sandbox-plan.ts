import { type Disk, type Hold, isLost } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { SandboxConfig } from "@caisson/protocol";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { requireCommonHeir } from "../disks/disk-heir.ts";
import { isMoving, takeOverIfLost } from "../disks/disk-take-over.ts";
import { pickNode } from "../nodes/node-choice.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { DEFAULT_BASE_IMAGE } from "../region.ts";
import { fetchIfLost } from "../replication/snapshot-fetch.ts";
import { rehomeIfLost } from "../replication/snapshot-rehome.ts";
import { rebuildIfRestored } from "../restored/volume-rebuild.ts";
import { requireBaseImage } from "../volumes/base-image.ts";

/** A sandbox that can be created: every name resolved, every rule between them checked. */
export interface SandboxPlan {
  readonly region: string;
  /**
   * What the sandbox is called inside: as asked for, else as its root volume, because programs whose files last bind them to the name (RabbitMQ,
   * browsers' profiles). Null: as its id.
   */
  readonly hostname: string | null;
  readonly root: /** A base image, by name: each node has its own. */
    | { readonly kind: "base"; readonly name: string }
    | { readonly kind: "image"; readonly imageId: string }
    | { readonly kind: "volume"; readonly volumeId: string };
  /** Null: its root is not made from a snapshot. */
  readonly rootSnapshotId: string | null;
  readonly mounts: readonly { readonly volumeId: string; readonly path: string; readonly isReadOnly: boolean }[];
  /** Every volume that the sandbox will hold, the root included. */
  readonly holds: readonly Hold[];
}

/**
 * Resolves a create's names. The region is that of the root and the volumes, since a client behind a fixed endpoint cannot say it; only when there
 * are none it is the requested one, else the server's default. Throws `REGION_MISMATCH`, `NOT_BOOTABLE`, `VOLUME_NOT_FOUND`, `INVALID_CONFIG`.
 */
export async function planSandbox(
  app: AppContext,
  actor: Actor,
  config: SandboxConfig,
  hostRegion: string | null,
  signal: AbortSignal,
): Promise<SandboxPlan> {
  refuseUnsupported(config);
  const rootName = config.root ?? DEFAULT_BASE_IMAGE;
  const wantedRoot = rootName.startsWith("builtin:") ? null : await requireRoot(app, actor, rootName);
  const volumes: { record: Disk; path: string; isReadOnly: boolean }[] = [];
  for (const mount of config.volumes) {
    volumes.push({
      record: await requireDisk(app, actor, "volume", mount.volume),
      path: mount.path,
      isReadOnly: mount.isReadOnly,
    });
  }

  const named = [...(wantedRoot === null ? [] : [wantedRoot]), ...volumes.map((volume) => volume.record)];
  requireDistinct(named);
  const region = chooseRegion(app, named, hostRegion ?? config.region);
  const near = await findTogether(app, named);
  if (near !== null && wantedRoot === null) requireBaseImage(near, region, rootName);
  for (const volume of volumes) volume.record = await takeOverIfLost(app, volume.record, near);
  const root = wantedRoot === null ? null : await rehomeIfLost(app, wantedRoot, near);
  const used = [...(root === null ? [] : [root]), ...volumes.map((volume) => volume.record)];
  const at = await chooseNode(app, used, region, root === null ? rootName : null);
  for (const disk of used) if (disk.kind === "volume") await rebuildIfRestored(app, disk, signal);
  const holds = volumes.map(({ record, isReadOnly }) => ({ volumeId: record.id, isReadOnly }));
  const mounts = volumes.map(({ record, path, isReadOnly }) => ({ volumeId: record.id, path, isReadOnly }));
  const { hostname } = config;
  const base = { region, hostname, rootSnapshotId: null, mounts, holds };
  if (root === null) {
    requireBaseImage(at, region, rootName);
    return { ...base, root: { kind: "base", name: rootName } };
  }
  if (root.kind === "snapshot") await fetchIfLost(app, root, signal);
  if (root.kind === "snapshot") return { ...base, rootSnapshotId: root.id, root: { kind: "image", imageId: root.id } };
  return {
    ...base,
    hostname: hostname ?? root.slug,
    root: { kind: "volume", volumeId: root.id },
    holds: [{ volumeId: root.id, isReadOnly: false }, ...holds],
  };
}

/** What this server does not offer is refused before anything starts, never accepted and ignored. */
function refuseUnsupported(config: SandboxConfig): void {
  const refuse = (option: string) => {
    throw new CaissonError(
      "NOT_SUPPORTED",
      `Cannot create a sandbox with "${option}": this server does not offer it yet. Leave the option out`,
    );
  };
  if (config.ssh) refuse("ssh");
  if (config.port !== null) refuse("port");
}

async function requireRoot(app: AppContext, actor: Actor, idOrSlug: string): Promise<Disk> {
  const organizationId = actor.organization.id;
  const root =
    (await app.store.disks.find(organizationId, "volume", idOrSlug)) ??
    (await app.store.disks.find(organizationId, "snapshot", idOrSlug));
  if (root === null) {
    throw new CaissonError(
      "VOLUME_NOT_FOUND",
      `There is no volume or snapshot ${JSON.stringify(idOrSlug.slice(0, 64))} to boot from`,
    );
  }
  if (root.isBootable) return root;
  throw new CaissonError(
    "NOT_BOOTABLE",
    `Cannot boot from ${root.kind} ${JSON.stringify(root.slug)}: it holds no operating system. Boot from one made from "${DEFAULT_BASE_IMAGE}"`,
  );
}

function requireDistinct(disks: readonly Disk[]): void {
  const seen = new Set<string>();
  for (const disk of disks) {
    if (seen.has(disk.id)) {
      throw new CaissonError(
        "INVALID_CONFIG",
        `The volume ${JSON.stringify(disk.slug)} is named twice: mount each volume at one place`,
      );
    }
    seen.add(disk.id);
  }
}

function chooseRegion(app: AppContext, used: readonly Disk[], requested: string | null): string {
  const [first] = used;
  if (first === undefined) return requested ?? app.nodes.defaultRegion(app.config.regions[0]);
  const other = used.find((disk) => disk.region !== first.region);
  if (other !== undefined) {
    throw new CaissonError(
      "REGION_MISMATCH",
      `The ${first.kind} ${JSON.stringify(first.slug)} is in region ${first.region} and the ${other.kind} ${JSON.stringify(other.slug)} in ${other.region}: ` +
        "use what lies in one region",
    );
  }
  return first.region;
}

/**
 * Where all of these can be used together, also what has to be taken over for that, or comes back from the snapshot store. Null: they are only of the last kind, or none. Throws what keeps them apart before anything has moved, because there is no way back
 * from a takeover: what is local, or is on a node that can be reached, stays there.
 */
async function findTogether(app: AppContext, named: readonly Disk[]): Promise<ConnectedNode | null> {
  const [first, ...others] = named.filter((disk) => !isMoving(app, disk) && (disk.lostAtMs === null || isLost(disk)));
  const near = first === undefined ? null : requireReachable(app, first);
  if (first !== undefined)
    for (const other of others) if (requireReachable(app, other) !== near) throw apart(first, other);
  const moving = named.filter((disk) => isMoving(app, disk));
  return moving.length === 0 ? near : requireCommonHeir(app, moving, near);
}

/** Also the node that is still taking it over. */
function requireReachable(app: AppContext, disk: Disk): ConnectedNode {
  return app.nodes.of({ ...disk, takenFrom: [] });
}

/** The node that has all of them; with none, one of the region, which need not be the one that the store chooses. */
async function chooseNode(
  app: AppContext,
  used: readonly Disk[],
  region: string,
  baseImage: string | null,
): Promise<ConnectedNode> {
  const [first, ...others] = used;
  if (first === undefined) return pickNode(app, region, baseImage);
  const at = app.nodes.of(first);
  for (const other of others) {
    if (app.nodes.of(other) !== at) throw apart(first, other);
  }
  return at;
}

function apart(first: Disk, other: Disk): CaissonError {
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `The ${first.kind} ${JSON.stringify(first.slug)} is on node ${first.owner.nodeId} and the ${other.kind} ${JSON.stringify(other.slug)} on node ${other.owner.nodeId}: ` +
      "a sandbox uses what lies on one node. Use what lies together, or export a snapshot of one and import it where the other is",
  );
}
