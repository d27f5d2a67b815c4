import type { Disk } from "@caisson/database";
import { type AppContext, requireRegion } from "./context.ts";

/** Measures the disk now, on demand, and returns the record with the new figures. */
export async function refreshUsage(app: AppContext, disk: Disk): Promise<Disk> {
  const usage = await requireRegion(app, disk.region).storage.usage(disk.id);
  if (usage.allocatedBytes === disk.allocatedBytes && usage.flattenedBytes === disk.flattenedBytes) return disk;
  await app.store.disks.setUsage(disk.id, usage);
  return { ...disk, ...usage };
}
