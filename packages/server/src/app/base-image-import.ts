import { open } from "node:fs/promises";
import { step } from "@caisson/linux";
import type { StorageDriver } from "@caisson/storage";
import { type BaseImage, DEFAULT_BASE_IMAGE } from "./region.ts";

const CHUNK_BYTES = 2 ** 20;

/** The base image as the image builder left it: one ext4 file system in a file. */
export interface BaseImageSource {
  readonly path: string;
  /** Hash of what it was made from. */
  readonly key: string;
  readonly sizeBytes: number;
}

/**
 * Brings the base image into a pool, once: its id carries the key, so an unchanged one is found there. It is written to an image that is still
 * writable and becomes visible under its id only by sealing, so a crash leaves nothing that looks finished.
 */
export async function importBaseImage(storage: StorageDriver, source: BaseImageSource): Promise<BaseImage> {
  const imageId = `img_${source.key}`;
  const base: BaseImage = { name: DEFAULT_BASE_IMAGE, imageId, sizeBytes: source.sizeBytes };
  if ((await storage.getImage(imageId)) !== null) return base;
  const partialId = `${imageId}-importing`;
  await storage.deleteImage(partialId);
  await storage.createImage(partialId, { sizeBytes: source.sizeBytes });
  try {
    const device = await storage.attach(partialId, "rw");
    try {
      await step("base-image-import.copy", () => copySparse(source.path, device.path));
    } finally {
      await storage.detach(device);
    }
    await step("base-image-import.seal", () => storage.sealImage(partialId, imageId));
  } finally {
    await storage.deleteImage(partialId);
  }
  return base;
}

/** Copies a file to a device of zeroes, leaving out what is zero in the file, and makes it durable. */
async function copySparse(sourcePath: string, devicePath: string): Promise<void> {
  await using source = await open(sourcePath, "r");
  await using device = await open(devicePath, "r+");
  const chunk = Buffer.alloc(CHUNK_BYTES);
  const zeroes = Buffer.alloc(CHUNK_BYTES);
  for (let position = 0; ; ) {
    const { bytesRead } = await source.read(chunk, 0, CHUNK_BYTES, position);
    if (bytesRead === 0) break;
    if (chunk.compare(zeroes, 0, bytesRead, 0, bytesRead) !== 0) await device.write(chunk, 0, bytesRead, position);
    position += bytesRead;
  }
  await device.sync();
}
