import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import {
  freeze,
  hasErrorCode,
  readDirtyBytes,
  readExt4Attribute,
  readExt4AttributeNow,
  readFileSystemBlocksNow,
  setReservedClusters,
  syncFileSystem,
  thaw,
  trim,
} from "@caisson/linux";
import type { DiskSpace, ImageId, StorageDriver } from "./driver.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const CLUSTER_BYTES = 4096;
/** With this much room, beyond what waits to be written, no writer can fill the pool before the guard looks again. */
const ROOMY_BYTES = 8 * GIB;
/** The guard looks again after a quarter of the time in which writers could fill the room at this speed. */
const FASTEST_BYTES_PER_SECOND = 4 * GIB;
const LONGEST_PAUSE_MS = 1000;
/** With little room left, while nobody writes, and while somebody does. */
const REST_PAUSE_MS = 50;
const ACTIVE_PAUSE_MS = 20;
/** Looking takes about this part of the time, unless that would make it look too late. */
const LOOKING_PART = 0.2;
/** Above this much room a writer may have all but half of this at once; below, writers share what there is. */
const PLENTY_BYTES = GIB;
/** What one of many idle file systems may have at once, where there is three times as much: what a fast writer can take between two looks. */
const BURST_BYTES = 128 * MIB;
/** A file system that grew this lately is being written to. */
const ACTIVE_MS = 500;
/** What a scratch disk may hold in any case, so that a sandbox starts in a full pool and files can be deleted in it. */
const SCRATCH_BYTES = 8 * MIB;
/** The blocks of deleted files are given back at most this often. */
const TRIM_PERIOD_MS = 1000;
const HOLD_MS = 10_000;

/** A file system that a sandbox can write to. */
export interface GuardedMount {
  readonly imageId: ImageId;
  /** The device that it is mounted from. */
  readonly devicePath: string;
  readonly target: string;
  readonly isScratch: boolean;
}

export interface SpaceGuardOptions {
  /** Told when writers of these images begin to stand still. */
  readonly onHold?: (imageIds: readonly ImageId[]) => void;
  /** How long writers stand still at most, waiting for room, in milliseconds; 10 seconds by default. */
  readonly holdMs?: number;
  readonly onError: (error: unknown) => void;
}

interface Guarded extends GuardedMount {
  readonly directory: FileHandle;
  readonly defaultClusters: number;
  reservedClusters: number;
  usedBytes: number;
  grewAtMs: number;
  /** Files were deleted in it, and their blocks not given back yet. */
  hasShrunk: boolean;
  trimmedAtMs: number;
  heldSinceMs: number | null;
  /** It stood still as long as it may, and does so again only after there was room. */
  hasWaited: boolean;
  isEnding: boolean;
  /** The last look at it failed, which has been told. */
  hasFailed: boolean;
}

interface Look extends Pick<Guarded, "usedBytes"> {
  readonly mount: Guarded;
  readonly freeBytes: number;
  /** Bytes that the pool must still give for what the file system has promised already: dirty pages, blocks reserved for files. */
  readonly owedBytes: number;
}

/** One disk of the pool, and the file systems whose images lie on it. */
interface DiskLook {
  readonly space: DiskSpace;
  readonly mounts: readonly Guarded[];
  /** Free beyond the headroom. */
  readonly roomBytes: number;
  readonly isRoomy: boolean;
  /** At the file systems; none where there is much room. */
  readonly looks: readonly Look[];
}

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
 */
export class SpaceGuard implements AsyncDisposable {
  readonly #storage: Pick<StorageDriver, "spacesNow">;
  readonly #options: SpaceGuardOptions;
  readonly #mounts = new Map<ImageId, Guarded>();
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #looking: Promise<number> = Promise.resolve(0);
  #flushing: Promise<void> | null = null;
  #isRoomy = false;
  #hasFailed = false;

  constructor(storage: Pick<StorageDriver, "spacesNow">, options: SpaceGuardOptions) {
    this.#storage = storage;
    this.#options = options;
    this.#running = this.#run();
  }

  /** From here on the file system is watched; its first limit holds when this resolves. */
  async add(mount: GuardedMount): Promise<void> {
    const defaultClusters = (await readExt4Attribute(mount.devicePath, "reserved_clusters")) ?? 0;
    this.#mounts.set(mount.imageId, {
      ...mount,
      directory: await open(mount.target, "r"),
      defaultClusters,
      reservedClusters: defaultClusters,
      usedBytes: Number.POSITIVE_INFINITY,
      grewAtMs: Number.NEGATIVE_INFINITY,
      hasShrunk: false,
      trimmedAtMs: Number.NEGATIVE_INFINITY,
      heldSinceMs: null,
      hasWaited: false,
      isEnding: false,
      hasFailed: false,
    });
    // A look that fails is no reason against the mount; the next one comes soon.
    if (!this.#isRoomy) await this.look().catch(this.#options.onError);
  }

  /** Lets writers that stand still go on for good: before their processes are ended, which could not die otherwise. Unknown is success. */
  letEnd(imageId: ImageId): void {
    const mount = this.#mounts.get(imageId);
    if (mount === undefined) return;
    mount.isEnding = true;
    this.#letGo(mount);
  }

  /** Ends the watching, before the unmount. Unknown is success. */
  async remove(imageId: ImageId): Promise<void> {
    this.letEnd(imageId);
    const mount = this.#mounts.get(imageId);
    this.#mounts.delete(imageId);
    // A look that has begun may still be using it.
    await this.#looking.catch(() => undefined);
    await this.#flushing;
    if (mount === undefined) return;
    // A hold that began just before.
    this.#letGo(mount);
    await mount.directory.close();
  }

  /** Whether writers of the image stand still for want of room. */
  isHeld(imageId: ImageId): boolean {
    return this.#mounts.get(imageId)?.heldSinceMs != null;
  }

  /** Looks at the pool and sets every limit anew. Resolves to the time until the next look. */
  async look(): Promise<number> {
    this.#looking = this.#looking.catch(() => undefined).then(() => this.#look());
    return this.#looking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#running;
    for (const imageId of [...this.#mounts.keys()]) await this.remove(imageId);
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      let pauseMs = LONGEST_PAUSE_MS;
      try {
        pauseMs = await this.look();
        this.#hasFailed = false;
      } catch (error) {
        // Once, not ten times a second.
        if (!this.#hasFailed) this.#options.onError(error);
        this.#hasFailed = true;
      }
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #look(): Promise<number> {
    // First of all, and whatever fails after it: nobody stands still for longer than was promised.
    this.#letGoOverdue();
    const dirtyBytes = await readDirtyBytes();
    const startedMs = performance.now();
    // All of it at one instant, before anything is waited for.
    const disks = this.#storage.spacesNow([...this.#mounts.keys()]).map((space) => this.#lookAtDisk(space, dirtyBytes));
    this.#isRoomy = disks.every(({ isRoomy }) => isRoomy);
    let pauseMs = LONGEST_PAUSE_MS;
    for (const disk of disks) pauseMs = Math.min(pauseMs, await this.#settle(disk, dirtyBytes, startedMs));
    return pauseMs;
  }

  #lookAtDisk(space: DiskSpace, dirtyBytes: number): DiskLook {
    const mounts = [...this.#mounts.values()].filter(({ imageId }) => space.storedBytes.has(imageId));
    const roomBytes = space.freeBytes - space.headroomBytes;
    // What is dirty may be for any disk.
    const isRoomy = roomBytes - dirtyBytes > ROOMY_BYTES;
    const looks = isRoomy
      ? []
      : mounts
          .map((mount) => this.#measure(mount, space.storedBytes.get(mount.imageId)))
          .filter((look) => look !== null);
    return { space, mounts, roomBytes, isRoomy, looks };
  }

  /** Sets the limits of the file systems on one disk. Resolves to the time until the next look. */
  async #settle(disk: DiskLook, dirtyBytes: number, startedMs: number): Promise<number> {
    const { space, mounts, roomBytes, isRoomy, looks } = disk;
    if (isRoomy) {
      for (const mount of mounts) this.#letGo(mount);
      for (const mount of mounts) await this.#limit(mount, 0);
      return LONGEST_PAUSE_MS;
    }
    await this.#limitAll(roomBytes, looks);
    await this.#holdOrLetGo(space, dirtyBytes, mounts);
    this.#giveBack(looks.map(({ mount }) => mount));
    const lookMs = performance.now() - startedMs;
    const isActive = looks.some(({ mount }) => startedMs - mount.grewAtMs < ACTIVE_MS);
    const fillMs = (1000 * Math.max(0, roomBytes)) / FASTEST_BYTES_PER_SECOND / 4;
    const restMs = Math.min(lookMs / LOOKING_PART, 2 * REST_PAUSE_MS);
    const leastMs = Math.max(isActive ? ACTIVE_PAUSE_MS : REST_PAUSE_MS, restMs);
    return Math.min(LONGEST_PAUSE_MS, Math.max(leastMs, fillMs));
  }

  #measure(mount: Guarded, storedBytes: number | undefined): Look | null {
    try {
      return this.#measureNow(mount, storedBytes);
    } catch (error) {
      this.#fail(mount, error);
      return null;
    }
  }

  #measureNow(mount: Guarded, storedBytes: number | undefined): Look | null {
    const delayedBlocks = readExt4AttributeNow(mount.devicePath, "delayed_allocation_blocks");
    // Unmounted meanwhile, or never an ext4 file system.
    if (delayedBlocks === null || storedBytes === undefined) return null;
    const { totalBlocks, freeBlocks, blockBytes } = readFileSystemBlocksNow(mount.target);
    const usedBytes = (totalBlocks - freeBlocks) * blockBytes;
    if (usedBytes > mount.usedBytes) mount.grewAtMs = performance.now();
    if (usedBytes < mount.usedBytes && mount.usedBytes !== Number.POSITIVE_INFINITY) mount.hasShrunk = true;
    mount.usedBytes = usedBytes;
    const owedBytes = Math.max(delayedBlocks * blockBytes, usedBytes - storedBytes, 0);
    return { mount, usedBytes, owedBytes, freeBytes: freeBlocks * blockBytes };
  }

  async #limitAll(roomBytes: number, looks: readonly Look[]): Promise<void> {
    const nowMs = performance.now();
    const leftBytes = Math.max(0, roomBytes - looks.reduce((sum, { owedBytes }) => sum + owedBytes, 0));
    const isActive = ({ mount }: Look) => nowMs - mount.grewAtMs < ACTIVE_MS;
    const activeCount = looks.filter(isActive).length;
    for (const look of looks) {
      // Those that are written to share what is left. One that begins now may have a part of it before the next look: with others more than
      // there is may be promised then, but not written in so short a time, unless there is little left, which the headroom makes up for.
      const burstBytes = Math.min(leftBytes / 3, BURST_BYTES);
      const idleBytes = activeCount === 0 ? Math.max(leftBytes / looks.length, burstBytes) : burstBytes;
      const partBytes = isActive(look) ? leftBytes / activeCount : idleBytes;
      const shareBytes = leftBytes >= PLENTY_BYTES ? leftBytes - PLENTY_BYTES / 2 : partBytes;
      const leastBytes = look.mount.isScratch ? SCRATCH_BYTES - look.usedBytes : 0;
      await this.#limit(look.mount, look.freeBytes - Math.max(0, shareBytes, leastBytes));
    }
  }

  async #limit(mount: Guarded, withheldBytes: number): Promise<void> {
    const clusters = Math.max(mount.defaultClusters, Math.floor(withheldBytes / CLUSTER_BYTES));
    if (clusters === mount.reservedClusters || !this.#mounts.has(mount.imageId)) return;
    try {
      await setReservedClusters(mount.devicePath, clusters);
      mount.reservedClusters = clusters;
      mount.hasFailed = false;
    } catch (error) {
      if (!hasErrorCode(error, "ENOENT", "ENODEV")) this.#fail(mount, error);
    }
  }

  /** What fails for one file system keeps the guard from nothing else; it is told once, until a limit is set again. */
  #fail(mount: Guarded, error: unknown): void {
    if (!mount.hasFailed) this.#options.onError(error);
    mount.hasFailed = true;
  }

  #letGoOverdue(): void {
    const { holdMs = HOLD_MS } = this.#options;
    for (const mount of this.#mounts.values()) {
      if (mount.heldSinceMs === null || performance.now() - mount.heldSinceMs < holdMs) continue;
      mount.hasWaited = true;
      this.#letGo(mount);
    }
  }

  async #holdOrLetGo(
    { freeBytes, headroomBytes }: DiskSpace,
    dirtyBytes: number,
    mounts: readonly Guarded[],
  ): Promise<void> {
    const volumes = mounts.filter(({ isScratch, isEnding }) => !isScratch && !isEnding);
    const leastBytes = headroomBytes / 2;
    if (freeBytes >= leastBytes + headroomBytes / 8) {
      for (const mount of volumes) {
        this.#letGo(mount);
        mount.hasWaited = false;
      }
      // What waits in memory may need as much: it is written before there is more of it than space.
      if (dirtyBytes > (freeBytes - leastBytes) / 2) this.#flush(volumes);
      return;
    }
    if (freeBytes < leastBytes)
      await this.#hold(volumes.filter((mount) => !mount.hasWaited && mount.heldSinceMs === null));
  }

  async #hold(mounts: readonly Guarded[]): Promise<void> {
    if (mounts.length === 0) return;
    this.#options.onHold?.(mounts.map(({ imageId }) => imageId));
    await Promise.all(
      mounts.map(async (mount) => {
        try {
          await freeze(mount.directory, mount.target);
          mount.heldSinceMs = performance.now();
          if (mount.isEnding) this.#letGo(mount);
        } catch (error) {
          // A snapshot is being taken of it; or it is broken already, which is reported at the unmount, and nothing would help.
          if (!hasErrorCode(error, "EBUSY")) mount.hasWaited = true;
        }
      }),
    );
  }

  #letGo(mount: Guarded): void {
    if (mount.heldSinceMs === null) return;
    mount.heldSinceMs = null;
    try {
      thaw(mount.directory, mount.target);
    } catch (error) {
      this.#options.onError(error);
    }
  }

  /** Writes out what waits in memory, one round at a time; nobody waits for it. What cannot be written is reported at the unmount. */
  #flush(mounts: readonly Guarded[]): void {
    if (mounts.length === 0) return;
    this.#flushing ??= Promise.allSettled(
      mounts.map(({ directory, target }) => syncFileSystem(directory, target)),
    ).then(() => {
      this.#flushing = null;
    });
  }

  /** Gives the blocks of deleted files back to the pool, where they are needed now. They can be given back only once the deletion is written. */
  #giveBack(mounts: readonly Guarded[]): void {
    const nowMs = performance.now();
    const due = mounts.filter(
      (mount) =>
        mount.hasShrunk && !mount.isEnding && mount.heldSinceMs === null && nowMs - mount.trimmedAtMs > TRIM_PERIOD_MS,
    );
    if (due.length === 0 || this.#flushing !== null) return;
    const giveBackOne = async (mount: Guarded) => {
      mount.hasShrunk = false;
      mount.trimmedAtMs = nowMs;
      // What a file system with an error believes to be free may be in use on the disk.
      if (((await readExt4Attribute(mount.devicePath, "errors_count")) ?? 0) > 0) return;
      // What cannot be written is reported at the unmount; space may help just then.
      await syncFileSystem(mount.directory, mount.target).catch(() => undefined);
      await trim(mount.directory, mount.target);
    };
    this.#flushing = Promise.allSettled(due.map(giveBackOne)).then(() => {
      this.#flushing = null;
    });
  }
}
