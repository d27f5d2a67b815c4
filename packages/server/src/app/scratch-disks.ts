import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { randomCharacters } from "@caisson/model";
import {
  type BlockDevice,
  createScratchImage,
  mountExt4,
  type StorageDriver,
  unmountFileSystem,
} from "@caisson/storage";

/** An empty, writable, formatted disk that lasts as long as one sandbox. */
export interface ScratchDisk {
  readonly imageId: string;
  readonly path: string;
  readonly device: BlockDevice;
}

/**
 * Scratch disks of one pool. A few are kept ready, since making one takes several milliseconds and a waiting one only costs its metadata.
 * Nothing on them must last, so nothing is synced; whatever a crash leaves is deleted at the next start.
 */
export class ScratchDisks {
  readonly #storage: StorageDriver;
  readonly #directory: string;
  readonly #sizeBytes: number;
  readonly #target: number;
  readonly #ready: ScratchDisk[] = [];
  #refill: Promise<void> | null = null;
  #isClosed = false;

  constructor(
    storage: StorageDriver,
    directory: string,
    options: { readonly sizeBytes: number; readonly preparedCount: number },
  ) {
    this.#storage = storage;
    this.#directory = directory;
    this.#sizeBytes = options.sizeBytes;
    this.#target = options.preparedCount;
  }

  async take(): Promise<ScratchDisk> {
    const disk = this.#ready.shift() ?? (await this.#make());
    this.prepare();
    return disk;
  }

  /** Wipes and removes the disk. */
  async discard(disk: ScratchDisk): Promise<void> {
    await unmountFileSystem(disk.path, { isDiscarded: true });
    await this.#storage.detach(disk.device);
    await this.#storage.deleteImage(disk.imageId);
    await rmdir(disk.path);
  }

  /** Fills the store of ready disks in the background. A failure here is not lost: the next `take` meets it itself. */
  prepare(): void {
    if (this.#refill !== null || this.#isClosed) return;
    this.#refill = this.#fill()
      .catch(() => {})
      .finally(() => {
        this.#refill = null;
      });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#refill;
    for (const disk of this.#ready.splice(0)) await this.discard(disk);
  }

  async #fill(): Promise<void> {
    while (!this.#isClosed && this.#ready.length < this.#target) this.#ready.push(await this.#make());
  }

  async #make(): Promise<ScratchDisk> {
    const imageId = `scr_${randomCharacters(20)}`;
    const path = join(this.#directory, imageId);
    await createScratchImage(this.#storage, imageId, this.#sizeBytes);
    try {
      const device = await this.#storage.attach(imageId, "rw");
      try {
        await mkdir(path, { recursive: true });
        await mountExt4(device.path, path, { isReadOnly: false, isRoot: true });
        return { imageId, path, device };
      } catch (error) {
        await this.#storage.detach(device);
        throw error;
      }
    } catch (error) {
      await this.#storage.deleteImage(imageId);
      throw error;
    }
  }
}
