import { type KeyedLock, step } from "@caisson/linux";
import { formatFileSystem, growFileSystem } from "@caisson/storage";
import type { Region } from "./region.ts";
import { withDevice } from "./with-device.ts";

/**
 * Makes a volume's image with its file system: a fresh one, or a copy-on-write clone of `source`, grown where the clone is larger. The clone is
 * taken under the source's lock, so that a purge cannot remove the source in between. Repeating it after a crash needs the image deleted first.
 */
export async function fillVolume(
  region: Region,
  volumeId: string,
  capacityBytes: number,
  source: { readonly imageId: string; readonly sizeBytes: number } | null,
  locks: KeyedLock,
): Promise<void> {
  const { storage } = region;
  if (source === null) {
    await step("volume-create.image", () => storage.createImage(volumeId, { sizeBytes: capacityBytes }));
    await withDevice(region, volumeId, (path) => step("volume-create.format", () => formatFileSystem(path, "data")));
    return;
  }
  const clone = () => storage.createImage(volumeId, { sizeBytes: capacityBytes, parent: source.imageId });
  await locks.run(source.imageId, () => step("volume-create.image", clone));
  if (capacityBytes > source.sizeBytes) {
    await withDevice(region, volumeId, (path) => step("volume-create.grow", () => growFileSystem(path)));
  }
}
