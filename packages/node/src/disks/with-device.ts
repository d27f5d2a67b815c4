import { type PersistentWork, step, undoSoon } from "@caisson/linux";
import type { StorageDriver } from "@caisson/storage";

/**
 * Runs `work` with the image attached read-write; the device is flushed and gone when this resolves. It goes after a failure too, so that the
 * image can be deleted or tried again; where that takes long it goes on in the background.
 */
export async function withDevice<T>(
  { persistent }: { readonly persistent: PersistentWork },
  storage: StorageDriver,
  imageId: string,
  work: (devicePath: string) => Promise<T>,
): Promise<T> {
  const device = await storage.attach(imageId, "rw");
  const detach = () => step("device.detach", () => storage.detach(device));
  let result: T;
  try {
    result = await work(device.path);
    // A flush that fails here is a failure of the work.
    await detach();
  } catch (error) {
    await undoSoon(persistent, { work: "detach an image", objectId: imageId }, detach);
    throw error;
  }
  return result;
}
