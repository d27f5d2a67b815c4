import type { Disk, DiskKind, Organization, Owner, Store, Token } from "@caisson/database";
import type { KeyedLock, PersistentWork } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Node, NodeDescription } from "@caisson/node";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { CredentialsFile } from "../credentials.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { LiveConnections } from "./access/live-connections.ts";
import type { RoomMaker } from "./disks/room.ts";
import type { Previews } from "./previews/previews.ts";
import type { Region } from "./region.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { LiveSandboxes } from "./sandboxes/live-sandboxes.ts";
import type { SshAccesses } from "./ssh/ssh-accesses.ts";
import type { TransferPlaces } from "./transfers/transfer-places.ts";

/** Everything that a use case works with. Made once, in server.ts. */
export interface AppContext {
  readonly config: Config;
  readonly store: Store;
  /** This run of the node that this server is. */
  readonly owner: Owner;
  /** The host: everything that is not in the rows. */
  readonly node: Node;
  /** Sandboxes that the host has room for. */
  readonly hostPlaces: Pick<NodeDescription, "placeCount" | "placeBound">;
  readonly regions: ReadonlyMap<string, Region>;
  /** Serialises what happens to one volume or snapshot, by id. */
  readonly locks: KeyedLock;
  /** Frees what can be freed when a pool needs room. */
  readonly room: RoomMaker;
  readonly live: LiveSandboxes;
  readonly connections: LiveConnections;
  readonly previews: Previews;
  readonly ssh: SshAccesses;
  readonly transfers: TransferPlaces;
  /** Null: the settings name none. */
  readonly snapshotStore: SnapshotStore | null;
  readonly replicator: Replicator;
  readonly credentials: CredentialsFile;
  /** Undoing and ending, tried again until they succeed. */
  readonly persistent: PersistentWork;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** On whose behalf a use case runs. */
export interface Actor {
  readonly organization: Organization;
  readonly token: Token;
}

/** The region by name. Throws `INVALID_REGION` with those that exist. */
export function requireRegion(app: AppContext, name: string): Region {
  const region = app.regions.get(name);
  if (region !== undefined) return region;
  throw new CaissonError(
    "INVALID_REGION",
    `There is no region ${JSON.stringify(name.slice(0, 32))} on this server: choose one of ${[...app.regions.keys()].join(", ")}`,
  );
}

/** Something that exists on one node. */
interface Placed {
  readonly id: string;
  readonly region: string;
  readonly owner: Pick<Owner, "nodeId">;
}

/** The region of something that exists; null: it is on another node, or the settings do not name its region any more. */
export function findRegionOf(app: AppContext, thing: Omit<Placed, "id">): Region | null {
  return thing.owner.nodeId === app.owner.nodeId ? (app.regions.get(thing.region) ?? null) : null;
}

/**
 * The region of something that exists. Throws `NODE_UNAVAILABLE` when it is on another node, and `REGION_UNAVAILABLE` when the settings do not name its region
 * any more: what lies there is kept, and can be used again when they do.
 */
export function requireRegionOf(app: AppContext, thing: Placed): Region {
  const region = findRegionOf(app, thing);
  if (region !== null) return region;
  throw regionError(app, thing);
}

/** Why the region of something that exists cannot be used, with what to do; null: it can. */
export function regionProblem(app: AppContext, thing: Placed): string | null {
  return findRegionOf(app, thing) === null ? regionError(app, thing).message : null;
}

function regionError(app: AppContext, { id, region, owner: { nodeId } }: Placed): CaissonError {
  if (nodeId !== app.owner.nodeId)
    return new CaissonError(
      "NODE_UNAVAILABLE",
      `Cannot use ${id}: it is on node ${nodeId}, and this server is node ${app.owner.nodeId}. Use the server of that node; \`caisson nodes show ${nodeId}\` tells where it is`,
    );
  return new CaissonError(
    "REGION_UNAVAILABLE",
    `Cannot use ${id}: its region ${JSON.stringify(region)} is not in the settings of this server. Add it to "regions" and start the server again`,
  );
}

/** A live volume or snapshot of the actor's organization, by id or slug. Throws `VOLUME_NOT_FOUND` or `SNAPSHOT_NOT_FOUND`. */
export async function requireDisk(app: AppContext, actor: Actor, kind: DiskKind, idOrSlug: string): Promise<Disk> {
  const disk = await app.store.disks.find(actor.organization.id, kind, idOrSlug);
  if (disk !== null) return disk;
  const shown = JSON.stringify(idOrSlug.slice(0, 64));
  if (kind === "snapshot") throw new CaissonError("SNAPSHOT_NOT_FOUND", `There is no snapshot ${shown}`);
  const snapshot = await app.store.disks.find(actor.organization.id, "snapshot", idOrSlug);
  const advice =
    snapshot === null
      ? ""
      : `: it is a snapshot, which is read-only. Create a volume from it ("from": ${JSON.stringify(snapshot.slug)}) and use that, ` +
        `or, if it is bootable, give it as "root"`;
  throw new CaissonError("VOLUME_NOT_FOUND", `There is no volume ${shown}${advice}`);
}
