import type { Disk } from "@caisson/database";
import { step } from "@caisson/linux";
import { type AppContext, recordEvent, requireRegion } from "./context.ts";

/** Frees the storage of a disk in state `purging`. Returns false while a sandbox still runs from it: a later purge takes it. */
export async function purgeDisk(app: AppContext, disk: Disk): Promise<boolean> {
  const region = requireRegion(app, disk.region);
  if (!(await region.roots.evict(disk.id))) return false;
  return app.locks.run(disk.id, async () => {
    await step("disk-purge.delete", () => region.storage.deleteImage(disk.id));
    await step("disk-purge.forget", () => app.store.disks.forget(disk.id));
    await recordEvent(app, null, `${disk.kind}-purge`, disk, { slug: disk.slug });
    return true;
  });
}
