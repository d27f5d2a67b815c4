import type { Disk, DiskKind, Organization, Store, Token } from "@caisson/database";
import type { KeyedLock, PersistentWork } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { CredentialsFile } from "../credentials.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { LiveConnections } from "./access/live-connections.ts";
import type { BackupWatch } from "./backups/backup-watch.ts";
import type { RoomMaker } from "./disks/room.ts";
import type { InstallationAuthority } from "./nodes/installation-authority.ts";
import type { NodeDirectory } from "./nodes/node-directory.ts";
import type { Previews } from "./previews/previews.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { SnapshotFetches } from "./replication/snapshot-fetches.ts";
import type { RestoredDisks } from "./restored/restored-disks.ts";
import type { LiveSandboxes } from "./sandboxes/live-sandboxes.ts";
import type { SshAccesses } from "./ssh/ssh-accesses.ts";
import type { TransferPlaces } from "./transfers/transfer-places.ts";

/** Everything that a use case works with. Made once, in server.ts. */
export interface AppContext {
  readonly config: Config;
  readonly store: Store;
  /** The hosts: everything that is not in the rows. */
  readonly nodes: NodeDirectory;
  readonly authority: InstallationAuthority;
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
  readonly backups: BackupWatch;
  /** What a restore has left to be brought back. */
  readonly restored: RestoredDisks;
  readonly fetches: SnapshotFetches;
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
