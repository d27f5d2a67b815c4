import { countInodes } from "@caisson/storage";
import type { DiskMeasurement, MeasureOptions } from "../node.ts";
import type { Pool } from "../pools/pool.ts";

/** Measures an image, and counts the inodes of its file system: as of now where that is mounted. Null: it lies on a disk that cannot be used, or there is no image, as of what has to come back from the snapshot store first. */
export async function measureDisk(
  { storage, volumes }: Pick<Pool, "storage" | "volumes">,
  id: string,
  { baseImageId, maxExtents, known }: MeasureOptions,
): Promise<DiskMeasurement | null> {
  if (storage.placeOf(id).problem !== null || (await storage.getImage(id)) === null) return null;
  const usage = await storage.usage(id, {
    base: baseImageId,
    known,
    ...(maxExtents === null ? {} : { maxExtents }),
  });
  return { usage, inodes: await countInodes(storage, id, volumes.mountPath(id)) };
}
