import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode, type KeyedLock, step } from "@caisson/linux";
import {
  type BlockDevice,
  FrozenFileSystem,
  mountVolume,
  recoverFileSystem,
  type StorageDriver,
  trimVolume,
  UnwrittenDataError,
  unmountVolume,
} from "@caisson/storage";
import type { Logger } from "pino";

interface MountedVolume {
  readonly device: BlockDevice;
  readonly path: string;
  readonly isReadOnly: boolean;
  users: number;
}

/** The longest that a snapshot may hold up a sandbox's writes. */
const FREEZE_DEADLINE_MS = 2_000;

/** What mounting a volume needs to know. */
export interface VolumeMountOptions {
  readonly isReadOnly: boolean;
  /** A root may hold devices' nodes and setuid programs; a data volume may not. */
  readonly isRoot: boolean;
}

/**
 * The volumes of one pool that are mounted on this host. A volume is mounted once: by its one writer, or shared by its readers. Who may mount
 * is decided before, in the database; mounting and unmounting of one volume take turns through the lock that snapshots and growing use too.
 */
export class VolumeMounts {
  readonly #storage: StorageDriver;
  readonly #directory: string;
  readonly #locks: KeyedLock;
  readonly #logger: Logger;
  readonly #mounted = new Map<string, MountedVolume>();

  constructor(storage: StorageDriver, directory: string, locks: KeyedLock, logger: Logger) {
    this.#storage = storage;
    this.#directory = directory;
    this.#locks = locks;
    this.#logger = logger;
  }

  /** Mounts the volume and returns the directory. Each success needs one `unmount`. */
  mount(volumeId: string, options: VolumeMountOptions): Promise<string> {
    return this.#locks.run(volumeId, async () => {
      const existing = this.#mounted.get(volumeId);
      if (existing !== undefined) {
        if (!options.isReadOnly || !existing.isReadOnly) throw new Error(`Volume ${volumeId} is mounted already`);
        existing.users += 1;
        return existing.path;
      }
      const path = join(this.#directory, volumeId);
      const device = await step("volume-mount.attach", () =>
        this.#storage.attach(volumeId, options.isReadOnly ? "ro" : "rw"),
      );
      try {
        await mkdir(path, { recursive: true, mode: 0o711 });
        if (!options.isReadOnly) await recoverFileSystem(device.path);
        await step("volume-mount.mount", () =>
          mountVolume({
            device: device.path,
            target: path,
            kind: options.isRoot ? "root" : "data",
            isReadOnly: options.isReadOnly,
          }),
        );
      } catch (error) {
        await this.#storage.detach(device);
        throw error;
      }
      this.#mounted.set(volumeId, { device, path, isReadOnly: options.isReadOnly, users: 1 });
      return path;
    });
  }

  /**
   * Gives up one `mount`. The last one gives unused space back, syncs, unmounts and detaches, in that order: then
   * everything written is on stable storage.
   */
  unmount(volumeId: string): Promise<void> {
    return this.#locks.run(volumeId, async () => {
      const mounted = this.#mounted.get(volumeId);
      if (mounted === undefined) return;
      if (mounted.users > 1) {
        mounted.users -= 1;
        return;
      }
      if (!mounted.isReadOnly) await this.#trim(mounted);
      await this.#reportLoss(volumeId, () => step("volume-mount.unmount", () => unmountVolume(mounted.path)));
      await this.#reportLoss(volumeId, () => step("volume-mount.detach", () => this.#storage.detach(mounted.device)));
      this.#mounted.delete(volumeId);
      await rmdir(mounted.path);
    });
  }

  /** True while a sandbox can write to the volume. Only meaningful while the volume's lock is held. */
  isWritable(volumeId: string): boolean {
    return this.#mounted.get(volumeId)?.isReadOnly === false;
  }

  /** Stops all writes to the volume until `thaw`; null when nobody can write to it. The caller holds the volume's lock. */
  async freeze(volumeId: string): Promise<FrozenFileSystem | null> {
    const mounted = this.#mounted.get(volumeId);
    if (mounted === undefined || mounted.isReadOnly) return null;
    return FrozenFileSystem.freeze(mounted.path, { deadlineMs: FREEZE_DEADLINE_MS });
  }

  /** Gives the blocks of files that were deleted in a mounted volume back to the pool. */
  trim(volumeId: string): Promise<void> {
    return this.#locks.run(volumeId, async () => {
      const mounted = this.#mounted.get(volumeId);
      if (mounted?.isReadOnly === false) await this.#trim(mounted);
    });
  }

  /** Ids of the volumes that are mounted now. */
  ids(): readonly string[] {
    return [...this.#mounted.keys()];
  }

  /**
   * A pool that is full, or a disk that fails, may not take what a sandbox never synced. That is lost whether or not the volume is held on to,
   * so it is written down and the volume is freed. Anything else is a reason to keep the volume attached.
   */
  async #reportLoss(volumeId: string, release: () => Promise<void>): Promise<void> {
    await release().catch((error: unknown) => {
      if (!(error instanceof UnwrittenDataError) && !hasErrorCode(error, "EIO", "ENOSPC")) throw error;
      this.#logger.error({ err: error, volumeId }, "a volume lost writes that were never synced");
    });
  }

  /** Space that is not given back now is given back the next time, so a failure holds nothing up. */
  async #trim(mounted: MountedVolume): Promise<void> {
    await trimVolume(mounted.path).catch((error: unknown) => {
      this.#logger.warn({ err: error, path: mounted.path }, "cannot trim a volume");
    });
  }
}
