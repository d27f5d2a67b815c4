import type { Disk, DiskUsage } from "@caisson/database";
import type { KnownUsage, Node } from "@caisson/node";
import type { AppContext } from "../context.ts";

/**
 * What a caller waits for: a scattered image of this many parts takes some 50 ms. Sizes of more scattered ones are measured in the background
 * only, and say how old they are.
 */
const MAX_EXTENTS = 20_000;

/** Measures a disk. One that is so scattered that a caller would wait keeps the sizes that are known of it; its inodes are counted all the same. */
export async function measureDisk(
  node: Node,
  { id, region, baseImageId }: Pick<Disk, "id" | "region" | "baseImageId">,
  known: DiskUsage,
): Promise<DiskUsage> {
  const usageMeasuredAtMs = Date.now();
  const options = { baseImageId, maxExtents: MAX_EXTENTS, known: knownUsage(known) };
  const measured = await node.measureDisk({ id, region }, options);
  // Its disk is missing, or its image.
  if (measured === null) return { ...usageOf(known), inodes: known.inodes, usedInodes: known.usedInodes };
  const inodes = measured.inodes ?? NO_INODES;
  return measured.usage === null
    ? { ...usageOf(known), ...inodes }
    : { ...measured.usage, ...inodes, usageMeasuredAtMs };
}

const NO_INODES = { inodes: null, usedInodes: null };

/** Nothing is known: of a new disk that was made from nothing. */
export const NO_USAGE: DiskUsage = {
  allocatedBytes: 0,
  flattenedBytes: 0,
  exclusiveBytes: 0,
  ...NO_INODES,
  usageMeasuredAtMs: null,
};

/** Measures a disk of whatever size and state, however long that takes, and remembers it. Where its node, its region or its disk is unavailable, or its image is lost, nothing changes. */
export async function measureFully(app: AppContext, disk: Disk): Promise<void> {
  const { id, region, baseImageId } = disk;
  const connected = app.nodes.find(disk);
  if (connected === null) return;
  const usageMeasuredAtMs = Date.now();
  const options = { baseImageId, maxExtents: null, known: knownUsage(disk) };
  const measured = await connected.node.measureDisk({ id, region }, options);
  if (measured === null || measured.usage === null) return;
  await app.store.disks.setUsage(id, { ...measured.usage, ...(measured.inodes ?? NO_INODES), usageMeasuredAtMs });
}

function knownUsage({ exclusiveBytes, usageMeasuredAtMs: measuredAtMs }: DiskUsage): KnownUsage | null {
  return measuredAtMs === null ? null : { exclusiveBytes, measuredAtMs };
}

function usageOf({ allocatedBytes, flattenedBytes, exclusiveBytes, usageMeasuredAtMs }: DiskUsage) {
  return { allocatedBytes, flattenedBytes, exclusiveBytes, usageMeasuredAtMs };
}
