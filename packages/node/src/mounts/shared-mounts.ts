import { mkdir, rmdir } from "node:fs/promises";
import { findMount, hasErrorCode, step, UndoStack } from "@caisson/linux";
import {
  type BlockDevice,
  type SpaceGuard,
  type StorageDriver,
  UnwrittenDataError,
  unmountVolume,
  WriteWitness,
} from "@caisson/storage";
import type { NodeLogger } from "../node-logger.ts";

/** How the one mount of an image is made. */
export interface MountRecipe {
  /** Where. The directory is made, and removed at the end. */
  readonly path: string;
  readonly isReadOnly: boolean;
  /** Mounts the device at the path. */
  mount(device: BlockDevice): Promise<void>;
}

/** What mounts that can be written to need besides. */
export interface WritableMounts {
  /** Keeps their writers from filling the pool. */
  readonly guard: SpaceGuard;
  /** Records that a volume lost writes or broke. It is called again until it succeeds. */
  onDamage(imageId: string, message: string): Promise<void>;
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
  /** Sees what goes wrong with it; null: it is read-only, or not mounted yet. */
  witness: WriteWitness | null;
  /** What went wrong, each to be recorded before it is given back. */
  readonly damages: string[];
  /** How many of them are recorded. */
  recordedDamages: number;
}

/**
 * Images of one pool that are mounted on this host, each once, however many hold it. Nothing here is lost by a failure: what could not be
 * mounted as a whole, or not be given back, stays known, and giving back again goes on where it stopped. Every call for an image is made
 * under its lock, which snapshots and growing use too; so the caller takes it.
 */
export class SharedMounts {
  readonly #storage: StorageDriver;
  readonly #logger: NodeLogger;
  readonly #writable: WritableMounts | null;
  readonly #byImage = new Map<string, Mounted>();

  /** Without `writable` all mounts are read-only. */
  constructor(storage: StorageDriver, logger: NodeLogger, writable: WritableMounts | null = null) {
    this.#storage = storage;
    this.#logger = logger;
    this.#writable = writable;
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
    const mounted: Mounted = {
      path,
      isReadOnly,
      isMounted: false,
      holders: new Set([holder]),
      made,
      witness: null,
      damages: [],
      recordedDamages: 0,
    };
    this.#byImage.set(imageId, mounted);
    const device = await step("volume-mount.attach", async () => {
      const attached = await this.#storage.attach(imageId, isReadOnly ? "ro" : "rw");
      made.defer(() => this.#detach(mounted, attached));
      return attached;
    });
    made.defer(() => removeDirectory(path));
    await mkdir(path, { recursive: true, mode: 0o711 });
    made.defer(() => this.#unmount(imageId, mounted));
    await step("volume-mount.mount", () => mount(device));
    if (!isReadOnly && this.#writable !== null) {
      mounted.witness = await WriteWitness.open(device.path, path);
      await this.#writable.guard.add({ imageId, devicePath: device.path, target: path, isScratch: false });
    }
    mounted.isMounted = true;
    return mounted;
  }

  /**
   * Unmounts and detaches, in that order: then everything written is on stable storage. Nothing there is success. Resolves to what went wrong
   * with the image while it was mounted, which is recorded then: empty, all is well.
   */
  async giveBack(imageId: string): Promise<readonly string[]> {
    const mounted = this.#byImage.get(imageId);
    if (mounted === undefined) return [];
    await mounted.made[Symbol.asyncDispose]();
    await this.#recordDamages(imageId, mounted);
    this.#byImage.delete(imageId);
    return mounted.damages;
  }

  /** Looks whether the file system has reported an error, and records the first. */
  async checkHealth(imageId: string): Promise<void> {
    const mounted = this.#byImage.get(imageId);
    if (mounted === undefined || mounted.damages.length > 0) return;
    const error = await mounted.witness?.findError();
    if (error == null) return;
    this.#reportDamage(imageId, mounted, `It must be checked: ${error}`, error);
    await this.#recordDamages(imageId, mounted);
  }

  /**
   * A pool that is full, or a disk that fails, may not take what a sandbox never synced. That is lost whether or not the volume is held on to,
   * so it is recorded and the volume is freed. Anything else is a reason to keep the volume attached.
   */
  async #unmount(imageId: string, mounted: Mounted): Promise<void> {
    await this.#writable?.guard.remove(imageId);
    try {
      await step("volume-mount.unmount", () =>
        unmountVolume(mounted.path, mounted.witness).catch((error: unknown) => {
          if (!(error instanceof UnwrittenDataError)) throw error;
          this.#reportLoss(imageId, mounted, error);
        }),
      );
      mounted.isMounted = false;
    } catch (error) {
      // Only the kernel knows what became of it.
      mounted.isMounted = (await findMount(mounted.path)) !== null;
      throw error;
    }
  }

  async #detach(mounted: Mounted, device: BlockDevice): Promise<void> {
    await step("volume-mount.detach", () =>
      this.#storage.detach(device).catch(async (error: unknown) => {
        if (!hasErrorCode(error, "EIO", "ENOSPC")) throw error;
        this.#reportLoss(device.imageId, mounted, error);
        // The last flush failed, after which the device is gone unless something else holds it.
        await this.#storage.detach(device);
      }),
    );
  }

  #reportLoss(imageId: string, mounted: Mounted, error: unknown): void {
    if (mounted.isReadOnly) return;
    const message =
      "Writes that its programs had not synced could not be stored and are lost, because the pool was full or its disk failed";
    this.#reportDamage(imageId, mounted, message, error);
  }

  #reportDamage(imageId: string, mounted: Mounted, message: string, error: unknown): void {
    this.#logger.error({ err: error, volumeId: imageId }, `a volume is damaged: ${message}`);
    if (!mounted.damages.includes(message)) mounted.damages.push(message);
  }

  async #recordDamages(imageId: string, mounted: Mounted): Promise<void> {
    for (const message of mounted.damages.slice(mounted.recordedDamages)) {
      await this.#writable?.onDamage(imageId, message);
      mounted.recordedDamages += 1;
    }
  }
}

async function removeDirectory(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
}
