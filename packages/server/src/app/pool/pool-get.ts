import type { DiskCapacity, PoolCapacity } from "@caisson/storage";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import type { Region } from "../region.ts";
import { usedPercent } from "./pool-watch.ts";

export interface DiskUsage extends DiskCapacity {
  readonly usedPercent: number;
}

/** What one region's pool holds, in bytes. The parts from `volumesBytes` to `sharedBytes` are all that is used. */
export interface PoolUsage extends PoolCapacity {
  readonly region: string;
  readonly disks: readonly DiskUsage[];
  /** Of what volumes and snapshots can ever have. */
  readonly usedPercent: number;
  readonly usedBytes: number;
  /** What purging the volumes, each alone, would free; measured lately, not now. */
  readonly volumesBytes: number;
  readonly snapshotsBytes: number;
  /** Deleted volumes and snapshots that can still be restored, or wait for the purge. */
  readonly deletedBytes: number;
  /** Built-in images and the template of scratch disks. */
  readonly builtInBytes: number;
  /** Scratch disks of sandboxes, and prepared ones. */
  readonly scratchBytes: number;
  /** The rest: what several of these share, and the pool's own metadata. */
  readonly sharedBytes: number;
}

/** What the pools hold, region by region. Throws `FORBIDDEN` unless the actor may administer the server, since it tells about all organizations. */
export async function getPools(app: AppContext, actor: Actor): Promise<readonly PoolUsage[]> {
  requireAdmin(actor, "see what the pools hold");
  return Promise.all([...app.regions.values()].map((region) => getPool(app, region)));
}

async function getPool(app: AppContext, region: Region): Promise<PoolUsage> {
  const { storage, ownImageIds } = region;
  const own = await app.store.disks.sumUsage(region.name);
  let builtInBytes = 0;
  let scratchBytes = 0;
  for await (const { id } of storage.listImages()) {
    if (ownImageIds.has(id)) builtInBytes += await storage.storedBytes(id);
    else if (id.startsWith("scr_")) scratchBytes += await storage.storedBytes(id);
  }
  const capacity = await storage.capacity();
  const usedBytes = Math.max(0, capacity.totalBytes - capacity.freeBytes);
  const knownBytes = own.volumesBytes + own.snapshotsBytes + own.deletedBytes + builtInBytes + scratchBytes;
  return {
    region: region.name,
    ...capacity,
    ...own,
    disks: capacity.disks.map((disk) => ({ ...disk, usedPercent: usedPercent(disk) })),
    usedPercent: usedPercent(capacity),
    usedBytes,
    builtInBytes,
    scratchBytes,
    sharedBytes: Math.max(0, usedBytes - knownBytes),
  };
}
