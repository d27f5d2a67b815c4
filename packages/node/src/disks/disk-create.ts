import { step } from "@caisson/linux";
import { formatFileSystem, growFileSystem } from "@caisson/storage";
import type { NewDiskSpec } from "../node.ts";
import type { Pool } from "../pools/pool.ts";
import { withDevice } from "./with-device.ts";

/** Volumes whose image is there and whose file system is not whole: a repetition begins them again. */
export type UnfinishedDisks = Set<string>;

/**
 * Makes a volume's image with its file system: a fresh one, which most often is written with the image, or a copy-on-write clone of `source`, grown where the clone is larger.
 * The storage keeps the source whole until the clone is made, also when it is purged in between. Its lock is not held for that: a clone may take seconds, and
 * sandboxes that start from the source, and other clones of it, do not wait for it.
 */
export async function createDisk(
  pool: Pick<Pool, "storage" | "blanks" | "locks" | "persistent">,
  unfinished: UnfinishedDisks,
  { id, sizeBytes, source, inodes }: NewDiskSpec,
): Promise<void> {
  const { storage, blanks } = pool;
  await pool.locks.run(id, async () => {
    if (source !== null && sizeBytes === source.sizeBytes) {
      await storage.createImage(id, { sizeBytes, parent: source.imageId });
      return;
    }
    if (source === null && blanks.hasTemplate(sizeBytes)) {
      await storage.createImage(id, { sizeBytes, pieces: await blanks.contentOf(sizeBytes, inodes) });
      return;
    }
    if (unfinished.has(id)) await storage.deleteImage(id);
    else if ((await storage.getImage(id)) !== null) return;
    unfinished.add(id);
    if (source === null) {
      await storage.createImage(id, { sizeBytes });
      await step("disk-create.format", () =>
        withDevice(pool, storage, id, (path) => formatFileSystem(path, "data", { inodes })),
      );
    } else {
      await storage.createImage(id, { sizeBytes, parent: source.imageId });
      await step("disk-create.grow", () => withDevice(pool, storage, id, growFileSystem));
    }
    unfinished.delete(id);
  });
}
