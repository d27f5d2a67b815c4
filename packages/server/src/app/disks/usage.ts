import type { Disk } from "@caisson/database";
import type { AppContext } from "../context.ts";
import { measureDisk } from "./disk-measure.ts";

/** The disk with the sizes of now, or the last known ones when it is too scattered to wait for, or on a node or in a region that is unavailable. */
export async function refreshUsage(app: AppContext, disk: Disk): Promise<Disk> {
  const connected = app.nodes.find(disk);
  if (connected === null) return disk;
  const usage = await measureDisk(connected.node, disk, disk);
  if (usage.usageMeasuredAtMs !== disk.usageMeasuredAtMs) await app.store.disks.setUsage(disk.id, usage);
  return { ...disk, ...usage };
}

/** Measures how much the volumes hold now and remembers it. A failure is no reason for anything else to fail: the next time measures again. */
export async function measureUsage(app: AppContext, volumeIds: readonly string[]): Promise<void> {
  for (const volumeId of volumeIds) {
    try {
      const volume = await app.store.disks.get(volumeId);
      if (volume !== null) await refreshUsage(app, volume);
    } catch (error) {
      // Deleted for good meanwhile.
      if ((await app.store.disks.get(volumeId).catch(() => null))?.state !== "ready") continue;
      app.logger.warn({ err: error, volumeId }, "cannot measure a volume");
    }
  }
}
