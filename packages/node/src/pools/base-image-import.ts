import { open, stat } from "node:fs/promises";
import { type OperationContext, runOperation, Step } from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import type { StorageDriver } from "@caisson/storage";
import { withDevice } from "../disks/with-device.ts";
import type { BaseImage } from "../node.ts";

const CHUNK_BYTES = 2 ** 20;

/** The base image as the image builder left it: one ext4 file system in a file. */
export interface BaseImageSource {
  /** Name on the wire, for example `builtin:debian-13`. */
  readonly name: string;
  readonly path: string;
  /** Hash of what it was made from. */
  readonly key: string;
  readonly sizeBytes: number;
}

/**
 * Brings the base image into a pool, once: its id carries the key, so an unchanged one is found there.
 *
 * It is written to an image of another name, which is the intent; the commit is the sealing, by which it becomes visible under its own id as a
 * whole. What is left under the other name, by a crash or after the commit, goes when the pool opens. Throws `STORAGE_FULL`
 * before anything is written when the pool has no room for it.
 */
export async function importBaseImage(
  context: OperationContext,
  storage: StorageDriver,
  source: BaseImageSource,
): Promise<BaseImage> {
  const { name, path, key, sizeBytes } = source;
  const imageId = `img_${key}`;
  const partialId = `${imageId}-importing`;
  const base: BaseImage = { name, imageId, sizeBytes };
  const existing = async () => ((await storage.getImage(imageId)) === null ? null : base);
  return runOperation(context, {
    name: "base-image-import",
    objectId: imageId,
    intent: { run: existing, undo: () => storage.deleteImage(partialId) },
    steps: [
      new Step("image", {
        async run() {
          await storage.deleteImage(partialId);
          await requireRoom(storage, path);
          await storage.createImage(partialId, { sizeBytes });
        },
      }),
      new Step("copy", {
        run: () => withDevice(context, storage, partialId, (devicePath) => copySparse(path, devicePath)),
      }),
    ],
    commit: {
      async run() {
        await storage.sealImage(partialId, imageId);
        return base;
      },
      withdraw: existing,
    },
  });
}

async function requireRoom(storage: StorageDriver, path: string): Promise<void> {
  const neededBytes = (await stat(path)).blocks * 512;
  const { availableBytes } = await storage.capacity();
  if (availableBytes >= neededBytes) return;
  throw new CaissonError(
    "STORAGE_FULL",
    `Cannot bring the built-in image into the pool: it needs ${formatSize(neededBytes)}, and ${formatSize(availableBytes)} are available`,
  );
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
    if (chunk.compare(zeroes, 0, bytesRead, 0, bytesRead) !== 0)
      await writeWhole(device, chunk.subarray(0, bytesRead), position);
    position += bytesRead;
  }
  await device.sync();
}

/** What is written to, as far as that needs it. */
interface WholeWriter {
  write(
    bytes: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesWritten: number }>;
}

/** One write may write less than it was given, as at the end of the space. */
export async function writeWhole(file: WholeWriter, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written);
    written += bytesWritten;
  }
}
