import type { Disk } from "@caisson/database";
import type { AppContext } from "./context.ts";

/** Measures the disk now, on demand, and returns the record with the new figures. Where its region is unavailable the last ones stay. */
export async function refreshUsage(app: AppContext, disk: Disk): Promise<Disk> {
  const region = app.regions.get(disk.region);
  if (region === undefined) return disk;
  const usage = await region.storage.usage(disk.id);
  if (usage.allocatedBytes === disk.allocatedBytes && usage.flattenedBytes === disk.flattenedBytes) return disk;
  await app.store.disks.setUsage(disk.id, usage);
  return { ...disk, ...usage };
}

/** Measures how much the volumes hold now and remembers it. A failure is no reason for anything else to fail: the next time measures again. */
export async function measureUsage(app: AppContext, regionName: string, volumeIds: readonly string[]): Promise<void> {
  const storage = app.regions.get(regionName)?.storage;
  if (storage === undefined) return;
  for (const volumeId of volumeIds) {
    try {
      await app.store.disks.setUsage(volumeId, await storage.usage(volumeId));
    } catch (error) {
      app.logger.warn({ err: error, volumeId }, "cannot measure a volume");
    }
  }
}
