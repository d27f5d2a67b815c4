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

export type GuardedStorage = Pick<StorageDriver, "placeOf" | "spaceNow">;

export interface SpaceGuardOptions {
  /** Told when writers of these images stand still. */
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
  /** Lets it go when it has stood still as long as it may. Null: it does not stand still. */
  hold: NodeJS.Timeout | null;
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

/** Keeps writers to the file systems whose images lie on one disk of a pool from promising more than that can store: a part of `SpaceGuard`, which says how. */
export class DiskGuard implements AsyncDisposable {
  readonly #storage: GuardedStorage;
  /** Of the disk. */
  readonly #directory: string;
  readonly #options: SpaceGuardOptions;
  readonly #mounts = new Map<ImageId, Guarded>();
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #looking: Promise<number> = Promise.resolve(0);
  #flushing: Promise<void> | null = null;
  #isRoomy = false;
  #hasFailed = false;

  constructor(storage: GuardedStorage, directory: string, options: SpaceGuardOptions) {
    this.#storage = storage;
    this.#directory = directory;
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
      hold: null,
      hasWaited: false,
      isEnding: false,
      hasFailed: false,
    });
    // A look that fails is no reason against the mount; the next one comes soon.
    if (!this.#isRoomy) await this.look().catch((error: unknown) => this.#tell(error));
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
    return this.#mounts.get(imageId)?.hold != null;
  }

  /** Looks at the disk and sets every limit anew. Resolves to the time until the next look. */
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
        this.#tell(error);
      }
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** Why looking at the disk fails: once, not ten times a second. */
  #tell(error: unknown): void {
    if (!this.#hasFailed) this.#options.onError(error);
    this.#hasFailed = true;
  }

  async #look(): Promise<number> {
    const dirtyBytes = await readDirtyBytes();
    const startedMs = performance.now();
    // All of it at one instant, before anything is waited for.
    const space = this.#storage.spaceNow(this.#directory, [...this.#mounts.keys()]);
    const roomBytes = space.freeBytes - space.headroomBytes;
    // What is dirty may be for any disk.
    this.#isRoomy = roomBytes - dirtyBytes > ROOMY_BYTES;
    const mounts = [...this.#mounts.values()];
    if (this.#isRoomy) {
      for (const mount of mounts) this.#endWait(mount);
      for (const mount of mounts) await this.#limit(mount, 0);
      return LONGEST_PAUSE_MS;
    }
    const looks = mounts
      .map((mount) => this.#measure(mount, space.storedBytes.get(mount.imageId)))
      .filter((look) => look !== null);
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

  async #holdOrLetGo(
    { freeBytes, headroomBytes }: DiskSpace,
    dirtyBytes: number,
    mounts: readonly Guarded[],
  ): Promise<void> {
    const volumes = mounts.filter(({ isScratch, isEnding }) => !isScratch && !isEnding);
    const leastBytes = headroomBytes / 2;
    if (freeBytes >= leastBytes + headroomBytes / 8) {
      for (const mount of volumes) this.#endWait(mount);
      // What waits in memory may need as much: it is written before there is more of it than space.
      if (dirtyBytes > (freeBytes - leastBytes) / 2) this.#flush(volumes);
      return;
    }
    if (freeBytes < leastBytes) await this.#hold(volumes.filter((mount) => !mount.hasWaited && mount.hold === null));
  }

  async #hold(mounts: readonly Guarded[]): Promise<void> {
    const startedMs = performance.now();
    const held = await Promise.all(
      mounts.map(async (mount) => ((await this.#holdOne(mount, startedMs)) ? [mount] : [])),
    );
    const imageIds = held.flat().map(({ imageId }) => imageId);
    if (imageIds.length > 0) this.#options.onHold?.(imageIds);
  }

  /** False: a snapshot is being taken of it, so that it stands still for the moment; or it is broken already, which is reported at the unmount. */
  async #holdOne(mount: Guarded, startedMs: number): Promise<boolean> {
    try {
      await freeze(mount.directory, mount.target);
    } catch (error) {
      // What is broken nothing would help.
      if (!hasErrorCode(error, "EBUSY")) mount.hasWaited = true;
      return false;
    }
    // A look may take as long as the disk likes, so it is not left to the looks.
    const letGo = () => {
      mount.hasWaited = true;
      this.#letGo(mount);
    };
    const { holdMs = HOLD_MS } = this.#options;
    mount.hold = setTimeout(letGo, Math.max(0, startedMs + holdMs - performance.now())).unref();
    if (mount.isEnding) this.#letGo(mount);
    return true;
  }

  /** There is room: it goes on, and may stand still for as long again when there is none. */
  #endWait(mount: Guarded): void {
    this.#letGo(mount);
    mount.hasWaited = false;
  }

  #letGo(mount: Guarded): void {
    if (mount.hold === null) return;
    clearTimeout(mount.hold);
    mount.hold = null;
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
        mount.hasShrunk && !mount.isEnding && mount.hold === null && nowMs - mount.trimmedAtMs > TRIM_PERIOD_MS,
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
