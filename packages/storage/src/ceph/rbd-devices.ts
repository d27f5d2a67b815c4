import { constants } from "node:fs";
import { LoopDevice, openFile, settleAll } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { AttachMode, BlockDevice, ImageId } from "../driver.ts";
import { RbdError } from "./rbd-client.ts";
import type { RbdExport } from "./rbd-export.ts";

interface Attachment {
  readonly mode: AttachMode;
  /** Ephemeral: nothing of it is ever flushed. */
  readonly isDiscarded: boolean;
  readonly served: RbdExport;
  readonly device: LoopDevice;
  /** The attachments that share the device. Empty while the last one is being detached. */
  readonly holders: Set<BlockDevice>;
}

/** The devices over images that are served as files, by image: one for a writer, or one for any number of readers. Two calls for one image never overlap. */
export class RbdDevices {
  readonly #byImage = new Map<ImageId, Attachment>();
  readonly #timeoutMs: number;

  constructor(options: { readonly timeoutMs: number }) {
    this.#timeoutMs = options.timeoutMs;
  }

  get count(): number {
    return this.#byImage.size;
  }

  isAttached(id: ImageId): boolean {
    return this.#byImage.has(id);
  }

  /** The device through which the image is written to, if there is one. */
  writer(id: ImageId): LoopDevice | null {
    const attachment = this.#byImage.get(id);
    return attachment?.mode === "rw" ? attachment.device : null;
  }

  /** Another holder of a device that is there; null: there is none yet. */
  share(id: ImageId, mode: AttachMode): BlockDevice | null {
    const existing = this.#byImage.get(id);
    if (existing === undefined) return null;
    if (mode === "ro" && existing.mode === "ro" && existing.holders.size > 0) return hold(id, existing);
    const how = existing.holders.size === 0 ? "being detached" : `attached ${modeName(existing.mode)}`;
    const message = `Cannot attach image ${id} ${modeName(mode)}: it is ${how} at ${existing.device.path}. Detach it there first`;
    throw new CaissonError("VOLUME_IN_USE", message);
  }

  /** Makes the file that is served a device. When that fails, the file is not closed. */
  async attach(id: ImageId, mode: AttachMode, served: RbdExport, isDiscarded: boolean): Promise<BlockDevice> {
    await using file = await openFile(served.path, mode === "rw" ? constants.O_RDWR : constants.O_RDONLY);
    const device = await LoopDevice.attach(file, { isDirect: true, isReadOnly: mode === "ro", name: id });
    const attachment = { mode, isDiscarded, served, device, holders: new Set<BlockDevice>() };
    this.#byImage.set(id, attachment);
    return hold(id, attachment);
  }

  /** Whether that was the last holder, and the device is gone. Throws what could not be written. */
  async detach(device: BlockDevice): Promise<boolean> {
    const attachment = this.#byImage.get(device.imageId);
    if (attachment === undefined || attachment.device.path !== device.path) return false;
    const isHolder = attachment.holders.delete(device);
    const isUnfinished = attachment.holders.size === 0;
    if (isHolder && !isUnfinished) await attachment.device.flush();
    if (!isUnfinished) return false;
    await this.#end(device.imageId, attachment);
    return true;
  }

  async detachAll(): Promise<void> {
    await settleAll([...this.#byImage].map(([id, attachment]) => this.#end(id, attachment)));
  }

  /** Only a device that is still in use stays; what could not be written at its end is reported, but it is gone. */
  async #end(id: ImageId, { device, served, isDiscarded }: Attachment): Promise<void> {
    let isLate = false;
    // A cluster that does not answer would keep the flush waiting for ever. Without the process that serves the file it fails.
    const deadline = setTimeout(() => {
      isLate = true;
      served.end();
    }, this.#timeoutMs);
    try {
      await device.detach({ isDiscarded });
    } catch (error) {
      throw isLate ? new RbdError("detach", { errno: "ETIMEDOUT", message: `no answer (${String(error)})` }) : error;
    } finally {
      clearTimeout(deadline);
      if (!(await device.isAttached())) {
        this.#byImage.delete(id);
        await served.close();
      }
    }
  }
}

function hold(imageId: ImageId, { mode, device, holders }: Attachment): BlockDevice {
  const held: BlockDevice = Object.freeze({ imageId, mode, path: device.path });
  holders.add(held);
  return held;
}

function modeName(mode: AttachMode): string {
  return mode === "rw" ? "read-write" : "read-only";
}
