import type { Disk, DiskUsage } from "@caisson/database";
import { countInodes, type KnownUsage } from "@caisson/storage";
import { type AppContext, findRegionOf } from "../context.ts";
import type { Region } from "../region.ts";

/**
 * What a caller waits for: a scattered image of this many parts takes some 50 ms. Sizes of more scattered ones are measured in the background
 * only, and say how old they are.
 */
const MAX_EXTENTS = 20_000;

/** Measures a disk. One that is so scattered that a caller would wait keeps the sizes that are known of it; its inodes are counted all the same. */
export async function measureDisk(
  region: Region,
  disk: Pick<Disk, "id" | "baseImageId">,
  known: DiskUsage,
): Promise<DiskUsage> {
  const { inodes: knownInodes, usedInodes } = known;
  // Its disk is missing.
  if (region.storage.placeOf(disk.id).problem !== null) return { ...usageOf(known), inodes: knownInodes, usedInodes };
  const usageMeasuredAtMs = Date.now();
  const usage = await region.storage.usage(disk.id, {
    base: disk.baseImageId,
    maxExtents: MAX_EXTENTS,
    known: knownUsage(known),
  });
  const inodes = await inodesOf(region, disk.id);
  return usage === null ? { ...usageOf(known), ...inodes } : { ...usage, ...inodes, usageMeasuredAtMs };
}

/** Nothing is known: of a new disk that was made from nothing. */
export const NO_USAGE: DiskUsage = {
  allocatedBytes: 0,
  flattenedBytes: 0,
  exclusiveBytes: 0,
  inodes: null,
  usedInodes: null,
  usageMeasuredAtMs: null,
};

/** Measures a disk of whatever size and state, however long that takes, and remembers it. Where its region or its disk is unavailable, or another node has it, nothing changes. */
export async function measureFully(app: AppContext, disk: Disk): Promise<void> {
  const usageMeasuredAtMs = Date.now();
  const options = { base: disk.baseImageId, known: knownUsage(disk) };
  const region = findRegionOf(app, disk);
  const usage = await region?.storage.usage(disk.id, options);
  if (region === null || usage == null) return;
  const inodes = await inodesOf(region, disk.id);
  await app.store.disks.setUsage(disk.id, { ...usage, ...inodes, usageMeasuredAtMs });
}

async function inodesOf({ storage, volumes }: Region, id: string): Promise<Pick<DiskUsage, "inodes" | "usedInodes">> {
  return (await countInodes(storage, id, volumes.mountPath(id))) ?? { inodes: null, usedInodes: null };
}

function knownUsage({ exclusiveBytes, usageMeasuredAtMs: measuredAtMs }: DiskUsage): KnownUsage | null {
  return measuredAtMs === null ? null : { exclusiveBytes, measuredAtMs };
}

function usageOf({ allocatedBytes, flattenedBytes, exclusiveBytes, usageMeasuredAtMs }: DiskUsage) {
  return { allocatedBytes, flattenedBytes, exclusiveBytes, usageMeasuredAtMs };
}
