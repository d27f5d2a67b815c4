import { settleAll } from "@caisson/linux";
import { DiskGuard, type GuardedMount, type GuardedStorage, type SpaceGuardOptions } from "./disk-guard.ts";
import type { ImageId } from "./driver.ts";

/**
 * Keeps writers from promising more than the pool can store.
 *
 * A file system over a sparse image takes writes into memory and promises them by its own free space; where the pool has none left, they
 * fail when they are written back, which no program may ever learn. So the guard makes each mounted file system believe in no more free
 * space than the pool has: it withholds the rest (`reserved_clusters` of ext4), and a program that wants more gets `ENOSPC` from its write.
 * While there is much room, nothing is withheld and the guard looks once a second.
 *
 * Overwriting is not stopped by that: blocks shared with a snapshot need space of their own when they are written. They take it from the
 * headroom. When half of that is gone, volumes stand still (frozen, with everything written) until there is room, at most 10 seconds; after
 * that their writes may fail, and the end of the volume's mount reports what was lost.
 *
 * Each disk of the pool is looked at for itself, so that one that is slow, hangs or fails delays nothing on the others.
 */
export class SpaceGuard implements AsyncDisposable {
  readonly #storage: GuardedStorage;
  readonly #options: SpaceGuardOptions;
  /** By directory. */
  readonly #disks = new Map<string, DiskGuard>();

  constructor(storage: GuardedStorage, options: SpaceGuardOptions) {
    this.#storage = storage;
    this.#options = options;
  }

  /** From here on the file system is watched; its first limit holds when this resolves. */
  async add(mount: GuardedMount): Promise<void> {
    const { directory } = this.#storage.placeOf(mount.imageId);
    const disk = this.#disks.get(directory) ?? new DiskGuard(this.#storage, directory, this.#options);
    this.#disks.set(directory, disk);
    await disk.add(mount);
  }

  /** Lets writers that stand still go on for good: before their processes are ended, which could not die otherwise. Unknown is success. */
  letEnd(imageId: ImageId): void {
    this.#diskOf(imageId)?.letEnd(imageId);
  }

  /** Ends the watching, before the unmount. Unknown is success. */
  async remove(imageId: ImageId): Promise<void> {
    await this.#diskOf(imageId)?.remove(imageId);
  }

  /** Whether writers of the image stand still for want of room. */
  isHeld(imageId: ImageId): boolean {
    return this.#diskOf(imageId)?.isHeld(imageId) ?? false;
  }

  /** Looks at every disk and sets every limit anew. */
  async look(): Promise<void> {
    await settleAll([...this.#disks.values()].map((disk) => disk.look()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await settleAll([...this.#disks.values()].map((disk) => disk[Symbol.asyncDispose]()));
  }

  #diskOf(imageId: ImageId): DiskGuard | undefined {
    return this.#disks.get(this.#storage.placeOf(imageId).directory);
  }
}
