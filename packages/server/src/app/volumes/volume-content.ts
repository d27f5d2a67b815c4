import { Step } from "@caisson/linux";
import { formatFileSystem, growFileSystem } from "@caisson/storage";
import type { AppContext } from "../context.ts";
import { withRoom } from "../disks/room.ts";
import { withDevice } from "../disks/with-device.ts";
import type { Region } from "../region.ts";

/** What a new volume holds. */
export interface VolumeContent {
  /** What it is a clone of; null: nothing, it gets a file system of its own. */
  readonly source: { readonly imageId: string; readonly sizeBytes: number } | null;
  /** How many inodes that file system has at least; null: as many as its size suggests. */
  readonly inodes: number | null;
}

/**
 * The steps that make a volume's image with its file system: a fresh one, which most often is written with the image, or a copy-on-write clone of `source`, grown where the clone is larger.
 * The storage keeps the source whole until the clone is made, also when it is purged in between. No lock is held for that: a clone may take seconds, and
 * sandboxes that start from the source, and other clones of it, do not wait for it.
 */
export function volumeContentSteps(
  app: AppContext,
  region: Region,
  { id, capacityBytes }: { readonly id: string; readonly capacityBytes: number },
  { source, inodes }: VolumeContent,
): readonly Step[] {
  const { storage } = region;
  const undo = () => storage.deleteImage(id);
  if (source === null) {
    const isTemplated = region.blanks.hasTemplate(capacityBytes);
    const create = async () => {
      const pieces = isTemplated ? await region.blanks.contentOf(capacityBytes, inodes) : [];
      await storage.createImage(id, { sizeBytes: capacityBytes, pieces });
    };
    const image = new Step("image", { run: () => withRoom(app, region, create), undo });
    if (isTemplated) return [image];
    return [
      image,
      new Step("format", {
        run: () => withDevice(app, storage, id, (path) => formatFileSystem(path, "data", { inodes })),
      }),
    ];
  }
  const clone = () => storage.createImage(id, { sizeBytes: capacityBytes, parent: source.imageId });
  const image = new Step("image", { run: () => withRoom(app, region, clone), undo });
  if (capacityBytes === source.sizeBytes) return [image];
  return [image, new Step("grow", { run: () => withDevice(app, storage, id, growFileSystem) })];
}
