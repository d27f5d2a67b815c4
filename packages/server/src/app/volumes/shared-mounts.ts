import { mkdir, rmdir } from "node:fs/promises";
import { findMount, hasErrorCode, step, UndoStack } from "@caisson/linux";
import { type BlockDevice, type StorageDriver, UnwrittenDataError, unmountVolume } from "@caisson/storage";
import type { Logger } from "pino";

/** How the one mount of an image is made. */
export interface MountRecipe {
  /** Where. The directory is made, and removed at the end. */
  readonly path: string;
  readonly isReadOnly: boolean;
  /** Mounts the device at the path. */
  mount(device: BlockDevice): Promise<void>;
}

/** An image that is mounted, is about to be, or could not be given back as a whole yet. */
export interface Mounted {
  readonly path: string;
  readonly isReadOnly: boolean;
  /** False before it is mounted, and once it is unmounted: the path is then an empty directory of the host. */
  isMounted: boolean;
  /** Ids of the sandboxes that use it. */
  readonly holders: Set<string>;
  /** What has to be undone; an entry goes when it is done. */
  readonly made: UndoStack;
}

/**
 * Images of one pool that are mounted on this host, each once, however many hold it. Nothing here is lost by a failure: what could not be
 * mounted as a whole, or not be given back, stays known, and giving back again goes on where it stopped. Every call for an image is made
 * under its lock, which snapshots and growing use too; so the caller takes it.
 */
export class SharedMounts {
  readonly #storage: StorageDriver;
  readonly #logger: Logger;
  readonly #byImage = new Map<string, Mounted>();

  constructor(storage: StorageDriver, logger: Logger) {
    this.#storage = storage;
    this.#logger = logger;
  }

  get(imageId: string): Mounted | undefined {
    return this.#byImage.get(imageId);
  }

  ids(): readonly string[] {
    return [...this.#byImage.keys()];
  }

  /** Mounts the image for its first holder. After a failure `giveBack` takes away what there is. */
  async mount(imageId: string, holder: string, { path, isReadOnly, mount }: MountRecipe): Promise<Mounted> {
    // Left over from a mount that failed, or one that could not be given back.
    await this.giveBack(imageId);
    const made = new UndoStack();
    const mounted: Mounted = { path, isReadOnly, isMounted: false, holders: new Set([holder]), made };
    this.#byImage.set(imageId, mounted);
    const device = await step("volume-mount.attach", async () => {
      const attached = await this.#storage.attach(imageId, isReadOnly ? "ro" : "rw");
      made.defer(() => this.#detach(imageId, attached));
      return attached;
    });
    made.defer(() => removeDirectory(path));
    await mkdir(path, { recursive: true, mode: 0o711 });
    made.defer(() => this.#unmount(imageId, mounted));
    await step("volume-mount.mount", () => mount(device));
    mounted.isMounted = true;
    return mounted;
  }

  /** Unmounts and detaches, in that order: then everything written is on stable storage. Nothing there is success. */
  async giveBack(imageId: string): Promise<void> {
    const mounted = this.#byImage.get(imageId);
    if (mounted === undefined) return;
    await mounted.made[Symbol.asyncDispose]();
    this.#byImage.delete(imageId);
  }

  /**
   * A pool that is full, or a disk that fails, may not take what a sandbox never synced. That is lost whether or not the volume is held on to,
   * so it is written down and the volume is freed. Anything else is a reason to keep the volume attached.
   */
  async #unmount(imageId: string, mounted: Mounted): Promise<void> {
    try {
      await step("volume-mount.unmount", () =>
        unmountVolume(mounted.path).catch((error: unknown) => {
          if (!(error instanceof UnwrittenDataError)) throw error;
          this.#reportLoss(imageId, error);
        }),
      );
      mounted.isMounted = false;
    } catch (error) {
      // Only the kernel knows what became of it.
      mounted.isMounted = (await findMount(mounted.path)) !== null;
      throw error;
    }
  }

  async #detach(imageId: string, device: BlockDevice): Promise<void> {
    await step("volume-mount.detach", () =>
      this.#storage.detach(device).catch(async (error: unknown) => {
        if (!hasErrorCode(error, "EIO", "ENOSPC")) throw error;
        this.#reportLoss(imageId, error);
        // The last flush failed, after which the device is gone unless something else holds it.
        await this.#storage.detach(device);
      }),
    );
  }

  #reportLoss(imageId: string, error: unknown): void {
    this.#logger.error({ err: error, volumeId: imageId }, "a volume lost writes that were never synced");
  }
}

async function removeDirectory(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
}
