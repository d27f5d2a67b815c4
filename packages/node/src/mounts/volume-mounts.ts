import { join } from "node:path";
import type { KeyedLock } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type LiveFileSystem, mountVolume, recoverFileSystem, type SpaceGuard, trimVolume } from "@caisson/storage";
import type { NodeLogger } from "../node-logger.ts";
import type { MountsOptions } from "./root-mounts.ts";
import { type Mounted, SharedMounts, type WritableMounts } from "./shared-mounts.ts";

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
  readonly #directory: string;
  readonly #locks: KeyedLock;
  readonly #logger: NodeLogger;
  readonly #guard: SpaceGuard;
  readonly #onDamage: WritableMounts["onDamage"];
  readonly #mounts: SharedMounts;

  constructor({ storage, directory, locks, logger }: MountsOptions, writable: WritableMounts) {
    this.#directory = directory;
    this.#locks = locks;
    this.#logger = logger;
    this.#guard = writable.guard;
    this.#onDamage = writable.onDamage;
    this.#mounts = new SharedMounts(storage, logger, writable);
  }

  /** Mounts the volume and returns the directory. Needs an `unmount` by the same holder, also after a failure. */
  mount(volumeId: string, options: VolumeMountOptions, holder: string): Promise<string> {
    return this.#locks.run(volumeId, async () => {
      const existing = this.#mounts.get(volumeId);
      if (existing === undefined || existing.holders.size === 0) return this.#mount(volumeId, options, holder);
      if (!options.isReadOnly || !existing.isReadOnly || !existing.isMounted)
        throw new Error(`Volume ${volumeId} is mounted already`);
      existing.holders.add(holder);
      return existing.path;
    });
  }

  /**
   * Gives up what `mount` gave. The last holder's call gives unused space back, syncs, unmounts and detaches, in that order: then everything
   * written is on stable storage. Again, or without a mount, is success; after a failure it goes on where it stopped. Resolves to what went
   * wrong with the volume meanwhile, as sentences for people.
   */
  unmount(volumeId: string, holder: string): Promise<readonly string[]> {
    return this.#locks.run(volumeId, async () => {
      const mounted = this.#mounts.get(volumeId);
      if (mounted === undefined) return [];
      mounted.holders.delete(holder);
      if (mounted.holders.size > 0) return [];
      await this.#trim(mounted);
      return this.#mounts.giveBack(volumeId);
    });
  }

  /** Lets writers that stand still for want of room go on, so that their processes can be ended. */
  letEnd(volumeId: string): void {
    this.#guard.letEnd(volumeId);
  }

  /** Records an error that the volume's file system has reported, if it is mounted. */
  checkHealth(volumeId: string): Promise<void> {
    return this.#locks.run(volumeId, () => this.#mounts.checkHealth(volumeId));
  }

  /** True while a sandbox can write to the volume. Only meaningful while the volume's lock is held. */
  isWritable(volumeId: string): boolean {
    const mounted = this.#mounts.get(volumeId);
    return mounted?.isMounted === true && !mounted.isReadOnly;
  }

  /** Where the volume is mounted now; null: it is not. */
  mountPath(volumeId: string): string | null {
    const mounted = this.#mounts.get(volumeId);
    return mounted?.isMounted === true ? mounted.path : null;
  }

  /** What a snapshot freezes; null when nobody can write to the volume. Only meaningful while the volume's lock is held. */
  live(volumeId: string): LiveFileSystem | null {
    const mounted = this.#mounts.get(volumeId);
    if (mounted === undefined || !this.isWritable(volumeId)) return null;
    if (this.#guard.isHeld(volumeId)) {
      throw new CaissonError(
        "STORAGE_FULL",
        `Cannot take a snapshot of volume ${volumeId}: its writers stand still, because the pool is full. Make room in the pool first`,
      );
    }
    return { mountPath: mounted.path, freezeDeadlineMs: FREEZE_DEADLINE_MS };
  }

  /** Gives the blocks of files that were deleted in a mounted volume back to the pool. */
  trim(volumeId: string): Promise<void> {
    return this.#locks.run(volumeId, async () => {
      const mounted = this.#mounts.get(volumeId);
      if (mounted !== undefined) await this.#trim(mounted);
    });
  }

  /** Ids of the volumes that are mounted now. */
  ids(): readonly string[] {
    return this.#mounts.ids();
  }

  async #mount(volumeId: string, { isReadOnly, isRoot }: VolumeMountOptions, holder: string): Promise<string> {
    const path = join(this.#directory, volumeId);
    const recover = (device: string) =>
      recoverFileSystem(device).catch(async (error: unknown) => {
        if (error instanceof CaissonError && error.code === "VOLUME_DAMAGED")
          await this.#onDamage(volumeId, error.message);
        throw error;
      });
    const { path: target } = await this.#mounts.mount(volumeId, holder, {
      path,
      isReadOnly,
      async mount(device) {
        if (!isReadOnly) await recover(device.path);
        await mountVolume({ device: device.path, target: path, kind: isRoot ? "root" : "data", isReadOnly });
      },
    });
    return target;
  }

  /** Space that is not given back now is given back the next time, so a failure holds nothing up. */
  async #trim(mounted: Mounted): Promise<void> {
    if (!mounted.isMounted || mounted.isReadOnly) return;
    // What it believes to be free may be in use on the disk.
    if ((await mounted.witness?.findError()) != null) return;
    await trimVolume(mounted.path).catch((error: unknown) => {
      this.#logger.warn({ err: error, path: mounted.path }, "cannot trim a volume");
    });
  }
}
