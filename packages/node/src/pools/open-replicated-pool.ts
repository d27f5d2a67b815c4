import { access } from "node:fs/promises";
import { join } from "node:path";
import { CaissonError } from "@caisson/model";
import {
  CephStorage,
  checkCeph,
  LocalStorage,
  type LocalStorageOptions,
  type ReplicatedPoolOptions,
} from "@caisson/storage";
import type { Evictables } from "./evictables.ts";
import { poolDirectory } from "./pool-directory.ts";

/** Where replicated volumes and snapshots lie. */
export type ReplicatedPoolSettings = ReplicatedDirectory | ReplicatedCeph;

/** A pool of a Ceph cluster. */
export interface ReplicatedCeph {
  /** Path of the cluster's `ceph.conf`. */
  readonly conf: string;
  /** Without `client.`. */
  readonly user: string;
  readonly pool: string;
  /** Of RBD, in the pool. Default: none. */
  readonly namespace?: string;
}

/** A directory on storage that is replicated below its file system, such as DRBD or the disk of a cloud. */
export interface ReplicatedDirectory {
  readonly directory: string;
  /** As `NodeOptions.pool.sizeBytes`, of each region's part. */
  readonly sizeBytes: number | null;
}

/** It lies in the directory, so that a disk that is not mounted is not taken for one that holds nothing. */
export const REPLICATED_MARK = "caisson-replicated";

/** How the replicated pool of a region is opened. */
export function replicatedPool(
  settings: ReplicatedPoolSettings,
  region: string,
  options: ReplicatedOptions,
  evictables: Evictables,
): ReplicatedPoolOptions {
  return "pool" in settings ? cephPool(settings, options) : directoryPool(settings, region, options, evictables);
}

interface ReplicatedOptions
  extends Pick<LocalStorageOptions, "headroomBytes" | "isAwakeForSyncs" | "onBackgroundError"> {
  /** For what this host must know of a pool that is not on it. */
  readonly stateDirectory: string;
}

function cephPool(
  cluster: ReplicatedCeph,
  { stateDirectory, headroomBytes, onBackgroundError }: ReplicatedOptions,
): ReplicatedPoolOptions {
  return {
    name: `ceph:${cephPoolName(cluster)}`,
    open: () =>
      CephStorage.open({
        ...cluster,
        directory: stateDirectory,
        ...(headroomBytes === undefined ? {} : { headroomBytes }),
        ...(onBackgroundError === undefined ? {} : { onBackgroundError }),
      }),
  };
}

/** As Ceph's own tools name it. */
export function cephPoolName({ pool, namespace }: ReplicatedCeph): string {
  return namespace === undefined ? pool : `${pool}/${namespace}`;
}

function directoryPool(
  { directory, sizeBytes }: ReplicatedDirectory,
  region: string,
  { stateDirectory: _ofOthers, ...options }: ReplicatedOptions,
  evictables: Evictables,
): ReplicatedPoolOptions {
  const name = poolDirectory(directory, region);
  return {
    name,
    async open() {
      await requireMounted(directory);
      const size = sizeBytes === null ? {} : { poolSizeBytes: sizeBytes };
      const storage = await LocalStorage.open({ ...options, ...size, directory: name });
      evictables.register({
        name: "spare clones of the replicated pool",
        async evict() {
          const { availableBytes, headroomBytes } = await storage.capacity();
          if (availableBytes < headroomBytes) await storage.evictSpares();
        },
      });
      return storage;
    },
  };
}

/** Why the pool cannot be used, with what to do; null: it can, as far as one can see from outside. */
export async function checkReplicatedPool(settings: ReplicatedPoolSettings): Promise<string | null> {
  if ("pool" in settings) return checkCeph(settings);
  return requireMounted(settings.directory).then(
    () => null,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

/** Throws `DISK_UNAVAILABLE` where the mark is missing. */
async function requireMounted(directory: string): Promise<void> {
  const mark = join(directory, REPLICATED_MARK);
  try {
    await access(mark);
  } catch (error) {
    throw new CaissonError(
      "DISK_UNAVAILABLE",
      `${mark} is missing, so that its disk is perhaps not mounted there. Mount it; when it is mounted for the first time, make that file (touch ${mark})`,
      { cause: error },
    );
  }
}
