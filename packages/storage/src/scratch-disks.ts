import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BlockDevice, ImageId, StorageDriver } from "./driver.ts";
import { abandonScratch, formatFileSystem, mountVolume } from "./file-system.ts";
import type { SpaceGuard } from "./space-guard.ts";

/** Part of the template's id: to be counted up when what `formatFileSystem` makes for scratch disks changes. */
const TEMPLATE_VERSION = 1;

/** Disposing it wipes and removes it. */
export interface ScratchDisk extends AsyncDisposable {
  readonly id: ImageId;
  /** Where it is mounted: an empty directory tree apart from `lost+found`. */
  readonly path: string;
}

/**
 * Disks that end with their sandbox. Each is a clone of one formatted template, and nothing of it is ever put on stable storage: not when it
 * is made, not when it is used, not when it ends.
 */
export class ScratchDisks {
  readonly #storage: StorageDriver;
  readonly #mountRoot: string;
  readonly #sizeBytes: number;
  readonly #guard: SpaceGuard | null;
  readonly #devices = new Map<ImageId, BlockDevice>();
  #template: Promise<ImageId> | null = null;

  /** Mounts the disks in directories below `mountRoot`. With a `guard` their writers cannot fill the pool. */
  constructor(
    storage: StorageDriver,
    options: { readonly mountRoot: string; readonly sizeBytes: number; readonly guard?: SpaceGuard },
  ) {
    this.#storage = storage;
    this.#guard = options.guard ?? null;
    this.#mountRoot = options.mountRoot;
    this.#sizeBytes = options.sizeBytes;
  }

  /** Makes the template unless it is there. `create` does it on demand; calling it before keeps it off the first one's way. */
  async prepare(): Promise<ImageId> {
    this.#template ??= this.#makeTemplate().catch((error: unknown) => {
      this.#template = null;
      throw error;
    });
    return this.#template;
  }

  async create(id: ImageId): Promise<ScratchDisk> {
    const parent = await this.prepare();
    const path = this.#pathOf(id);
    await this.#storage.createImage(id, { sizeBytes: this.#sizeBytes, parent, isEphemeral: true });
    try {
      const device = await this.#storage.attach(id, "rw");
      this.#devices.set(id, device);
      await mkdir(path, { recursive: true, mode: 0o700 });
      await mountVolume({ device: device.path, target: path, kind: "scratch", isReadOnly: false });
      await this.#guard?.add({ imageId: id, devicePath: device.path, target: path, isScratch: true });
      return { id, path, [Symbol.asyncDispose]: () => this.destroy(id) };
    } catch (error) {
      await this.destroy(id);
      throw error;
    }
  }

  /** Ends the disk, whatever part of it there is. Nothing there is success. */
  async destroy(id: ImageId): Promise<void> {
    const path = this.#pathOf(id);
    await this.#guard?.remove(id);
    await abandonScratch(path);
    const device = this.#devices.get(id);
    if (device !== undefined) await this.#storage.detach(device);
    this.#devices.delete(id);
    await this.#storage.deleteImage(id);
    await rm(path, { recursive: true, force: true });
  }

  #pathOf(id: ImageId): string {
    return join(this.#mountRoot, id);
  }

  async #makeTemplate(): Promise<ImageId> {
    const id = `img_scratch-v${TEMPLATE_VERSION}-${this.#sizeBytes}`;
    if ((await this.#storage.getImage(id)) !== null) return id;
    const draft = `${id}-draft`;
    await this.#storage.deleteImage(draft);
    await this.#storage.createImage(draft, { sizeBytes: this.#sizeBytes });
    const device = await this.#storage.attach(draft, "rw");
    try {
      await formatFileSystem(device.path, "scratch");
    } finally {
      await this.#storage.detach(device);
    }
    await this.#storage.sealImage(draft, id);
    await this.#storage.deleteImage(draft);
    return id;
  }
}
