import type { Region } from "./region.ts";

/** Runs `work` with the image attached read-write; the device is flushed and gone when this resolves. */
export async function withDevice<T>(
  region: Region,
  imageId: string,
  work: (devicePath: string) => Promise<T>,
): Promise<T> {
  const device = await region.storage.attach(imageId, "rw");
  try {
    return await work(device.path);
  } finally {
    await region.storage.detach(device);
  }
}
