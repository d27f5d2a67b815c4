import type { Disk, DiskUsage } from "@caisson/database";
import type { KnownUsage } from "@caisson/storage";
import type { AppContext } from "../context.ts";
import type { Region } from "../region.ts";

/**
 * What a caller waits for: a scattered image of this many parts takes some 50 ms. Sizes of more scattered ones are measured in the background
 * only, and say how old they are.
 */
const MAX_EXTENTS = 20_000;

/** Measures a disk, unless it is so scattered that a caller would wait: then what is known of it stays. */
export async function measureDisk(
  region: Region,
  disk: Pick<Disk, "id" | "baseImageId">,
  known: DiskUsage,
): Promise<DiskUsage> {
  const usageMeasuredAtMs = Date.now();
  const usage = await region.storage.usage(disk.id, {
    base: disk.baseImageId,
    maxExtents: MAX_EXTENTS,
    known: knownUsage(known),
  });
  return usage === null ? usageOf(known) : { ...usage, usageMeasuredAtMs };
}

/** Nothing is known: of a new disk that was made from nothing. */
export const NO_USAGE: DiskUsage = {
  allocatedBytes: 0,
  flattenedBytes: 0,
  exclusiveBytes: 0,
  usageMeasuredAtMs: null,
};

/** Measures a disk of whatever size and state, however long that takes, and remembers it. Where its region or its disk is unavailable nothing changes. */
export async function measureFully(app: AppContext, disk: Disk): Promise<void> {
  const usageMeasuredAtMs = Date.now();
  const options = { base: disk.baseImageId, known: knownUsage(disk) };
  const usage = await app.regions.get(disk.region)?.storage.usage(disk.id, options);
  if (usage != null) await app.store.disks.setUsage(disk.id, { ...usage, usageMeasuredAtMs });
}

function knownUsage({ exclusiveBytes, usageMeasuredAtMs: measuredAtMs }: DiskUsage): KnownUsage | null {
  return measuredAtMs === null ? null : { exclusiveBytes, measuredAtMs };
}

function usageOf({ allocatedBytes, flattenedBytes, exclusiveBytes, usageMeasuredAtMs }: DiskUsage): DiskUsage {
  return { allocatedBytes, flattenedBytes, exclusiveBytes, usageMeasuredAtMs };
}
