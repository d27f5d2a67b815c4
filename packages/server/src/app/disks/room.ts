import type { Disk } from "@caisson/database";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { DiskCapacity, PoolCapacity } from "@caisson/storage";
import type { AppContext } from "../context.ts";
import type { Region } from "../region.ts";
import { purgeDisk } from "./disk-purge.ts";

/** Deleted disks that are looked at in one go. */
const PURGE_BATCH = 1000;

/** Something in the pool that makes work faster and can be made again, such as spare clones. */
export interface Evictable {
  /** For the log, for example `spare clones`. */
  readonly name: string;
  /** Frees about that many bytes, or all that there is, the least useful first. Nothing there is success. It runs alone. */
  evict(bytes: number): Promise<void>;
}

/** Makes room in one region's pool, at most once at a time. */
export class RoomMaker {
  readonly #evictables: Evictable[] = [];
  #making: Promise<boolean> | null = null;

  /** What is registered first is evicted first. */
  register(evictable: Evictable): void {
    this.#evictables.push(evictable);
  }

  /** Joins what is under way, or begins. */
  run(make: (evictables: readonly Evictable[]) => Promise<boolean>): Promise<boolean> {
    this.#making ??= make(this.#evictables).finally(() => {
      this.#making = null;
    });
    return this.#making;
  }
}

/** Whether a disk of a pool needs room: as much as its headroom should be available beside it. */
export function needsRoom({ disks }: PoolCapacity): boolean {
  return disks.some(diskNeedsRoom);
}

function diskNeedsRoom({ availableBytes, headroomBytes, problem }: DiskCapacity): boolean {
  return problem === null && availableBytes < headroomBytes;
}

/** The most that one of the disks lacks. */
function lackingBytes({ disks }: PoolCapacity): number {
  return Math.max(0, ...disks.filter(diskNeedsRoom).map((disk) => disk.headroomBytes - disk.availableBytes));
}

/**
 * Makes room in a pool that needs it: first what can be made again goes, then volumes and snapshots that are deleted, the oldest deletion
 * first, on the disk that needs it, each only after the least time that the settings promise (`volumes.retention_floor_hours`). It stops as soon as there is room.
 * Resolves to whether anything was freed.
 */
export function makeRoom(app: AppContext, region: Region): Promise<boolean> {
  return region.room.run(async (evictables) => {
    const before = await region.storage.capacity();
    for (const evictable of evictables) {
      const capacity = await region.storage.capacity();
      if (!needsRoom(capacity)) break;
      const { name } = evictable;
      await evictable
        .evict(lackingBytes(capacity))
        .catch((error: unknown) =>
          app.logger.warn({ err: error, region: region.name, name }, "cannot evict what can be made again"),
        );
    }
    await purgeEarly(app, region);
    const after = await region.storage.capacity();
    return after.freeBytes > before.freeBytes;
  });
}

/** Runs work that needs room in the pool; when it is refused for want of it, makes room and tries once more. */
export async function withRoom<T>(app: AppContext, region: Region, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CaissonError && error.code === "STORAGE_FULL") && !hasErrorCode(error, "ENOSPC"))
      throw error;
    if (!(await makeRoom(app, region))) throw error;
    return work();
  }
}

async function purgeEarly(app: AppContext, region: Region): Promise<void> {
  const { retentionMs, retentionFloorMs } = app.config.volumes;
  if (retentionFloorMs >= retentionMs) return;
  const beforeMs = Date.now() - retentionFloorMs;
  let full = await findFull(region);
  let after: Disk | null = null;
  // As far as there are any: those of other disks may come first.
  while (full.length > 0) {
    const { nodeId } = app.owner;
    const page = await app.store.disks.listDeleted(nodeId, region.name, beforeMs, { limit: PURGE_BATCH, after });
    for (const deleted of page) {
      // What lies elsewhere would make no room there.
      if (!full.includes(region.storage.placeOf(deleted.id).directory)) continue;
      await purgeOneEarly(app, deleted);
      full = await findFull(region);
      if (full.length === 0) return;
    }
    after = page.at(-1) ?? null;
    if (after === null) return;
  }
}

/** The directories of the disks that need room. */
async function findFull(region: Region): Promise<readonly string[]> {
  const { disks } = await region.storage.capacity();
  return disks.filter(diskNeedsRoom).map(({ directory }) => directory);
}

async function purgeOneEarly(app: AppContext, { id, slug, kind }: Disk): Promise<void> {
  const disk = await app.store.disks.beginPurgeOf(app.owner, id);
  if (disk === null) return;
  const isPurged = await purgeDisk(app, disk, { reason: "pool-full" }).catch((error: unknown) => {
    app.logger.error({ err: error, id, slug }, "cannot purge a disk early; the next purge tries again");
    return false;
  });
  if (isPurged) app.logger.warn({ id, slug, kind }, "purged a deleted disk early: the pool needs room");
}
