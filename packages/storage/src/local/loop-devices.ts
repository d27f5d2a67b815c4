import { constants } from "node:fs";
import { dirname } from "node:path";
import { type HasDescriptor, hasErrorCode, LoopDevice, openFile, openUntimed } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { AttachMode, BlockDevice, ImageId } from "../driver.ts";
import type { StoredImage } from "./image-directory.ts";
import type { SyncedWriteWatch } from "./synced-write-watch.ts";

interface Attachment {
  /** Of the image. */
  readonly path: string;
  readonly mode: AttachMode;
  /** Ephemeral: nothing of it is ever flushed. */
  readonly isDiscarded: boolean;
  readonly device: LoopDevice;
  /** The attachments that share the device. Empty while the last one is being detached. */
  readonly holders: Set<BlockDevice>;
}

/**
 * The loop devices over images, by image: one for a writer, or one for any number of readers. The caller makes sure that two calls for one
 * image never overlap.
 */
export class LoopDevices {
  readonly #byImage = new Map<ImageId, Attachment>();
  readonly #watch: SyncedWriteWatch | null;

  constructor(watch: SyncedWriteWatch | null) {
    this.#watch = watch;
  }

  isAttached(id: ImageId): boolean {
    return this.#byImage.has(id);
  }

  /** The device through which the image is written to, if there is one. */
  writerPath(id: ImageId): string | null {
    const attachment = this.#byImage.get(id);
    return attachment?.mode === "rw" ? attachment.device.path : null;
  }

  /** Where the image of an attached device is; null: it is not attached. */
  pathOf(id: ImageId): string | null {
    return this.#byImage.get(id)?.path ?? null;
  }

  async attach(id: ImageId, image: StoredImage, mode: AttachMode): Promise<BlockDevice> {
    const existing = this.#byImage.get(id);
    if (existing !== undefined && (mode === "rw" || existing.mode === "rw" || existing.holders.size === 0)) {
      const how = existing.holders.size === 0 ? "being detached" : `attached ${modeName(existing.mode)}`;
      throw new CaissonError(
        "VOLUME_IN_USE",
        `Cannot attach image ${id} ${modeName(mode)}: it is ${how} at ${existing.device.path}. Detach it there first`,
      );
    }
    const attachment = existing ?? {
      path: image.path,
      mode,
      isDiscarded: image.state === "scratch",
      device: await openDevice(image, mode),
      holders: new Set<BlockDevice>(),
    };
    const device: BlockDevice = Object.freeze({ imageId: id, mode, path: attachment.device.path });
    attachment.holders.add(device);
    this.#byImage.set(id, attachment);
    if (mode === "rw" && !attachment.isDiscarded) this.#watch?.add(device.path);
    return device;
  }

  async detach(device: BlockDevice): Promise<void> {
    const attachment = this.#byImage.get(device.imageId);
    if (attachment === undefined || attachment.device.path !== device.path) return;
    const isHolder = attachment.holders.delete(device);
    // Nobody holds it, and yet it is there: an earlier detach met a device in use, and this one tries again.
    const isUnfinished = attachment.holders.size === 0;
    if (isHolder && !isUnfinished) await attachment.device.flush();
    if (!isUnfinished) return;
    this.#watch?.remove(device.path);
    try {
      await attachment.device.detach({ isDiscarded: attachment.isDiscarded });
    } finally {
      // Only a device that is still in use stays; what it could not write at its end is reported, but it is gone.
      if (!(await attachment.device.isAttached())) this.#byImage.delete(device.imageId);
    }
  }

  async detachAll(): Promise<void> {
    const outcomes = await Promise.allSettled(
      [...this.#byImage].map(async ([id, { device, isDiscarded }]) => {
        await device.detach({ isDiscarded });
        this.#byImage.delete(id);
      }),
    );
    const failures = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason as unknown);
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("; "));
  }
}

async function openDevice(image: StoredImage, mode: AttachMode): Promise<LoopDevice> {
  const flags = mode === "rw" ? constants.O_RDWR : constants.O_RDONLY;
  await using file = await openFile(image.path, flags);
  const options = { isDirect: true, isReadOnly: mode === "ro", name: image.path };
  if (mode === "ro") return await LoopDevice.attach(file, options);
  await using directory = await openFile(dirname(image.path), "r");
  const untimed = await openUntimed(directory, file, flags, image.path).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOTTY", "ENOTSUP", "EPERM")) return null;
    throw error;
  });
  // The device keeps the file open by itself.
  try {
    const backing: HasDescriptor = untimed ?? file;
    return await LoopDevice.attach(backing, options);
  } finally {
    await untimed?.close();
  }
}

function modeName(mode: AttachMode): string {
  return mode === "rw" ? "read-write" : "read-only";
}
