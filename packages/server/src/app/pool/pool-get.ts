import type { DiskCapacity, PoolCapacity } from "@caisson/node";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
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
  const pools = app.nodes.all().flatMap((at) => [...at.regions.keys()].map((region) => getPool(app, at, region)));
  return Promise.all(pools);
}

async function getPool(app: AppContext, { node }: ConnectedNode, region: string): Promise<PoolUsage> {
  const own = await app.store.disks.sumUsage(region);
  const { builtInBytes, scratchBytes } = await node.ownPoolUsage(region);
  const capacity = await node.poolCapacity(region);
  const usedBytes = Math.max(0, capacity.totalBytes - capacity.freeBytes);
  const knownBytes = own.volumesBytes + own.snapshotsBytes + own.deletedBytes + builtInBytes + scratchBytes;
  return {
    region,
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
