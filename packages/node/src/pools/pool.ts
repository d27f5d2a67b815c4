import type { KeyedLock, PersistentWork, ReadyQueue } from "@caisson/linux";
import type { ClassStorage, ScratchDisk, StorageDriver } from "@caisson/storage";
import type { RootMounts } from "../mounts/root-mounts.ts";
import type { VolumeMounts } from "../mounts/volume-mounts.ts";
import type { BaseImage } from "../node.ts";
import type { NodeLogger } from "../node-logger.ts";
import type { BlankVolumes } from "./blank-volumes.ts";
import type { Evictables } from "./evictables.ts";

/** The storage pool of one region on this host, and what is mounted from it. */
export interface Pool {
  readonly region: string;
  readonly storage: ClassStorage;
  /** The part of the storage that is this node's alone, where all of its own images lie. */
  readonly local: StorageDriver;
  readonly hasReplicated: boolean;
  readonly baseImages: readonly BaseImage[];
  readonly roots: RootMounts;
  readonly volumes: VolumeMounts;
  /** What new volumes begin with. */
  readonly blanks: BlankVolumes;
  /** Making one takes several milliseconds, and one that waits costs only its metadata. */
  readonly scratch: ReadyQueue<ScratchDisk>;
  readonly evictables: Evictables;
  /** Images in the pool that belong to the node itself. */
  readonly ownImageIds: ReadonlySet<string>;
  /** Serialises what happens to one image, by id. */
  readonly locks: KeyedLock;
  /** Undoing, tried again until it succeeds. */
  readonly persistent: PersistentWork;
  readonly logger: NodeLogger;
}

/** The node's own images beside those of `ownImageIds`, by their names: scratch disks, and base images that are not used any more. */
export function isOwnImage(pool: Pick<Pool, "ownImageIds">, id: string): boolean {
  return pool.ownImageIds.has(id) || id.startsWith("scr_") || id.startsWith("img_");
}
