import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  allocateRange,
  findMount,
  hasErrorCode,
  LoopDevice,
  type LoopStatus,
  mountFileSystem,
  openFile,
  readAvailableBytesNow,
  readSpace,
  renameFile,
  runTool,
  step,
  syncDirectory,
  syncFile,
  trim,
  truncateFile,
  unmount,
} from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import { findDevicesOfPool } from "./leftover-devices.ts";

/** The smallest XFS that mkfs makes, with room for its log. */
const MINIMUM_POOL_BYTES = 512 * 2 ** 20;
const MIB = 2 ** 20;
/**
 * Each feature by name, because newer tools choose others by themselves. No reverse map: with it a clone costs three times as much for every extent
 * (docs/adr/0004-fragmented-volumes.md).
 */
const POOL_FEATURES = "crc=1,finobt=1,reflink=1,rmapbt=0,bigtime=1,inobtcount=1";
/** Blocks of deleted images go back to the host's disk when there are this many, and not too often. */
const TRIM_BYTES = 64 * MIB;
const TRIM_PERIOD_MS = 10_000;
/** The ballast follows the host's disk in steps of this size, so that it does not change with every write. */
const BALLAST_STEP_BYTES = 16 * MIB;
const BALLAST_PERIOD_MS = 1000;
/** Others may have the pool for a moment when it is closed: a program that looks at it, a container whose mounts are a copy of the host's until its root is in place. */
const RELEASE_TIMEOUT_MS = 30_000;

export interface PoolFileOptions {
  /** The sparse file; made when missing. */
  readonly path: string;
  /** Where its file system is mounted. */
  readonly mountPath: string;
  /** Wanted size; a pool can grow, never shrink. Without it: a new pool as large as the host's disk now allows, an old one as it is. */
  readonly sizeBytes?: number;
  /** Bytes of the host's disk that the pool leaves free. */
  readonly reserveBytes: number;
  /** Waits until devices that `find` finds are gone. */
  readonly settle: (find: () => Promise<readonly LoopStatus[]>) => Promise<void>;
  /** Told when following the host's disk failed: once, until it works again. It is tried again a second later. */
  readonly onBackgroundError: (error: unknown) => void;
}

/**
 * A file system with reflink for hosts that have none: a sparse file, formatted as XFS, on a loop device with direct I/O.
 *
 * A sparse file promises more than the disk below may have, and a write that fails below XFS destroys it. A second file in the pool, the
 * ballast, prevents that: it reserves blocks, without writing them, so that XFS never has more free space than the host's disk, less the
 * reserve. What runs out is then XFS, which handles it. The ballast follows the disk every second.
 */
export class PoolFile {
  readonly mountPath: string;
  readonly #options: PoolFileOptions;
  readonly #device: LoopDevice;
  readonly #timer: NodeJS.Timeout;
  #balancing: Promise<void> = Promise.resolve();
  #balancingSoon: Promise<void> | null = null;
  #hasFailed = false;
  #lastTrimMs = Number.NEGATIVE_INFINITY;

  private constructor(options: PoolFileOptions, device: LoopDevice) {
    this.mountPath = options.mountPath;
    this.#options = options;
    this.#device = device;
    this.#timer = setInterval(() => void this.#tryToFollow(), BALLAST_PERIOD_MS).unref();
  }

  static async open(options: PoolFileOptions): Promise<PoolFile> {
    await createPoolFile(options);
    await mkdir(options.mountPath, { recursive: true, mode: 0o700 });
    // Left by a server that died outside a mount namespace of its own.
    if ((await findMount(options.mountPath)) !== null) await unmount(options.mountPath);
    await options.settle(() => findDevicesOfPool(options.path));
    await using file = await openFile(options.path, constants.O_RDWR);
    await growPoolFile(file, options);
    const device = await LoopDevice.attach(file, { isDirect: true, name: options.path });
    try {
      const source = device.path;
      await mountFileSystem(
        // The kernel refuses a second file system of one identity unless told: a copy of a data directory runs beside its original.
        { type: "xfs", source, target: options.mountPath, options: "nouuid" },
        { noAtime: true, noDev: true, noSuid: true, noExec: true },
      );
      try {
        // Also when the file has not grown just now: an earlier run may have died between the file and the file system.
        await runTool("xfs_growfs", ["-d", options.mountPath]);
        const pool = new PoolFile(options, device);
        await pool.balance();
        return pool;
      } catch (error) {
        await unmount(options.mountPath);
        throw error;
      }
    } catch (error) {
      await device.detach();
      throw error;
    }
  }

  /** What the pool file's file system has, as far as the host's disk can give it. */
  async readSpace(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    await this.balance();
    const { totalBytes, availableBytes } = await readSpace(this.mountPath);
    return { totalBytes: totalBytes - (await this.#ballastBytes()), freeBytes: availableBytes };
  }

  /**
   * What is free at this instant. It waits for nothing, and the answer is right before the ballast is, which then follows as soon as a trim or
   * a growth under way lets it.
   */
  freeBytesNow(): number {
    // What fails here fails again a second later, and is told then.
    this.#balancingSoon ??= this.balance()
      .catch(() => undefined)
      .finally(() => {
        this.#balancingSoon = null;
      });
    const hostBytes = readAvailableBytesNow(dirname(this.#options.path)) - this.#options.reserveBytes;
    return Math.min(readAvailableBytesNow(this.mountPath), Math.max(0, hostBytes));
  }

  /** Makes the file, the device and the file system larger while they are used. A crash in between is settled by the next `open`. */
  async grow(sizeBytes: number): Promise<void> {
    await this.#afterOthers(async () => {
      await using file = await openFile(this.#options.path, constants.O_RDWR);
      await growPoolFile(file, { ...this.#options, sizeBytes });
      await this.#device.updateCapacity();
      await step("storage.pool.grow", () => runTool("xfs_growfs", ["-d", this.mountPath]));
      await this.#balance();
    });
  }

  /** Gives blocks that the pool no longer uses back to the host's disk. */
  async trim(): Promise<void> {
    await using mount = await open(this.mountPath, "r");
    await trim(mount, this.mountPath);
  }

  /** Makes the pool's free space what the host's disk can back. */
  async balance(): Promise<void> {
    await this.#afterOthers(() => this.#balance());
  }

  async #tryToFollow(): Promise<void> {
    try {
      await this.#follow();
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed) this.#options.onBackgroundError(error);
      this.#hasFailed = true;
    }
  }

  async #follow(): Promise<void> {
    await this.#afterOthers(async () => {
      const now = performance.now();
      // While the host's disk is what limits the pool, what was deleted is only room again when it is given back.
      const periodMs = (await this.#ballastBytes()) > 0 ? 0 : TRIM_PERIOD_MS;
      if (now - this.#lastTrimMs > periodMs && (await this.#reclaimableBytes()) > TRIM_BYTES) {
        await this.trim();
        this.#lastTrimMs = now;
      }
      await this.#balance();
    });
  }

  async #afterOthers(task: () => Promise<void>): Promise<void> {
    this.#balancing = this.#balancing.catch(() => undefined).then(task);
    await this.#balancing;
  }

  async #balance(): Promise<void> {
    const ballast = await this.#ballastBytes();
    const surplus = await this.#surplusBytes();
    const wanted = Math.max(0, Math.ceil((ballast + surplus) / BALLAST_STEP_BYTES) * BALLAST_STEP_BYTES);
    if (wanted === ballast) return;
    await using file = await openFile(this.#ballastPath, constants.O_RDWR | constants.O_CREAT, 0o600);
    if (wanted < ballast) await truncateFile(file, wanted, this.#ballastPath);
    else await growBallast(file, ballast, wanted - ballast, this.#ballastPath);
  }

  /** Blocks that the pool file has on the host's disk beyond what the file system in it uses. */
  async #reclaimableBytes(): Promise<number> {
    const { blocks } = await stat(this.#options.path);
    const { totalBytes, availableBytes } = await readSpace(this.mountPath);
    return blocks * 512 - (totalBytes - availableBytes - (await this.#ballastBytes()));
  }

  /** How much more XFS believes to have than the disk can give; negative when it could have more. */
  async #surplusBytes(): Promise<number> {
    const host = await readSpace(dirname(this.#options.path));
    const pool = await readSpace(this.mountPath);
    return pool.availableBytes - Math.max(0, host.availableBytes - this.#options.reserveBytes);
  }

  get #ballastPath(): string {
    return join(this.mountPath, "ballast");
  }

  async #ballastBytes(): Promise<number> {
    try {
      return (await stat(this.#ballastPath)).size;
    } catch (error) {
      if (hasErrorCode(error, "ENOENT")) return 0;
      throw error;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#balancing.catch(() => undefined);
    await unmount(this.mountPath, { timeoutMs: RELEASE_TIMEOUT_MS });
    await this.#device.detach({ timeoutMs: RELEASE_TIMEOUT_MS });
  }
}

/** Reserves what is wanted or, where that is more than there is, everything. */
async function growBallast(file: FileHandle, offset: number, length: number, path: string): Promise<void> {
  for (let part = length; part >= BALLAST_STEP_BYTES; part = Math.floor(part / 2)) {
    try {
      await allocateRange(file, offset, part, path);
      return;
    } catch (error) {
      if (!hasErrorCode(error, "ENOSPC")) throw error;
      await truncateFile(file, offset, path);
    }
  }
}

/** Makes the file unless it is there: under another name until it is whole. */
async function createPoolFile({ path, sizeBytes, reserveBytes }: PoolFileOptions): Promise<void> {
  const unfinished = `${path}.new`;
  await rm(unfinished, { force: true });
  if (await exists(path)) return;
  const available = (await readSpace(dirname(path))).availableBytes - reserveBytes;
  const size = Math.floor((sizeBytes ?? available) / MIB) * MIB;
  if (size < MINIMUM_POOL_BYTES) {
    throw new CaissonError(
      "STORAGE_FULL",
      `Cannot make the pool file ${path}: ${formatSize(Math.max(0, size))} is less than the smallest pool, ` +
        `${formatSize(MINIMUM_POOL_BYTES)}, beside a reserve of ${formatSize(reserveBytes)}. Free space on that disk or choose another`,
    );
  }
  await using file = await openFile(unfinished, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  await truncateFile(file, size, unfinished);
  // `-K`: there is nothing to discard in a new file.
  await runTool("mkfs.xfs", ["-q", "-K", "-m", POOL_FEATURES, "-L", "caisson", unfinished]);
  await syncFile(file, unfinished);
  await step("storage.pool.create", () => renameFile(unfinished, path));
  await syncDirectory(dirname(path));
}

async function growPoolFile(file: FileHandle, { path, sizeBytes }: PoolFileOptions): Promise<void> {
  const { size } = await file.stat();
  const wanted = Math.floor((sizeBytes ?? size) / MIB) * MIB;
  if (wanted < size) {
    throw new CaissonError(
      "INVALID_CAPACITY",
      `Cannot give the pool file ${path} ${formatSize(wanted)}: it has ${formatSize(size)} and cannot shrink. ` +
        "Set that size or a larger one",
    );
  }
  if (wanted === size) return;
  await truncateFile(file, wanted, path);
  await syncFile(file, path);
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return false;
    throw error;
  }
}
