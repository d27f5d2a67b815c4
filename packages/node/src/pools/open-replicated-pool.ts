import { access } from "node:fs/promises";
import { join } from "node:path";
import { CaissonError } from "@caisson/model";
import { LocalStorage, type LocalStorageOptions, type ReplicatedPoolOptions } from "@caisson/storage";
import type { Evictables } from "./evictables.ts";
import { poolDirectory } from "./pool-directory.ts";

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
  { directory, sizeBytes }: ReplicatedDirectory,
  region: string,
  options: Omit<LocalStorageOptions, "directory" | "poolSizeBytes">,
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

/** Throws `DISK_UNAVAILABLE` where the mark is missing. */
export async function requireMounted(directory: string): Promise<void> {
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
