import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { KeyedLock } from "@caisson/linux";
import { type BlockDevice, mountVolume, type StorageDriver, unmountVolume } from "@caisson/storage";

interface MountedRoot {
  readonly device: BlockDevice;
  readonly path: string;
  users: number;
  idleTimer: NodeJS.Timeout | null;
}

/** How long the root of a snapshot stays mounted after its last sandbox, so that the next one starts without mounting it. */
const IDLE_MS = 30_000;

/**
 * Snapshots and base images that sandboxes run from: each attached and mounted read-only once per host, however many sandboxes share it,
 * so that they share its page cache too.
 */
export class RootMounts {
  readonly #storage: StorageDriver;
  readonly #directory: string;
  readonly #locks: KeyedLock;
  readonly #mounted = new Map<string, MountedRoot>();

  constructor(storage: StorageDriver, directory: string, locks: KeyedLock) {
    this.#storage = storage;
    this.#directory = directory;
    this.#locks = locks;
  }

  /** The mounted directory of the image. Each success needs one `release`. */
  acquire(imageId: string): Promise<string> {
    return this.#locks.run(imageId, async () => {
      const mounted = this.#mounted.get(imageId) ?? (await this.#mount(imageId));
      if (mounted.idleTimer !== null) clearTimeout(mounted.idleTimer);
      mounted.idleTimer = null;
      mounted.users += 1;
      return mounted.path;
    });
  }

  release(imageId: string): void {
    const mounted = this.#mounted.get(imageId);
    if (mounted === undefined) return;
    mounted.users -= 1;
    if (mounted.users > 0) return;
    mounted.idleTimer = setTimeout(() => void this.evict(imageId).catch(() => {}), IDLE_MS);
    mounted.idleTimer.unref();
  }

  /** Unmounts an image that no sandbox uses. Returns false while one does. */
  evict(imageId: string): Promise<boolean> {
    return this.#locks.run(imageId, async () => {
      const mounted = this.#mounted.get(imageId);
      if (mounted === undefined) return true;
      if (mounted.users > 0) return false;
      if (mounted.idleTimer !== null) clearTimeout(mounted.idleTimer);
      await unmountVolume(mounted.path);
      await this.#storage.detach(mounted.device);
      this.#mounted.delete(imageId);
      await rmdir(mounted.path);
      return true;
    });
  }

  async close(): Promise<void> {
    for (const imageId of [...this.#mounted.keys()]) await this.evict(imageId);
  }

  async #mount(imageId: string): Promise<MountedRoot> {
    const path = join(this.#directory, imageId);
    const device = await this.#storage.attach(imageId, "ro");
    try {
      await mkdir(path, { recursive: true, mode: 0o711 });
      await mountVolume({ device: device.path, target: path, kind: "root", isReadOnly: true });
    } catch (error) {
      await this.#storage.detach(device);
      throw error;
    }
    const mounted: MountedRoot = { device, path, users: 0, idleTimer: null };
    this.#mounted.set(imageId, mounted);
    return mounted;
  }
}
