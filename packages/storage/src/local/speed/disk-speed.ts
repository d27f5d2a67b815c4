import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { findMount, lockFile, readSpace, runTool, unmount } from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import { formatFileSystem, mountVolume, unmountVolume } from "../../file-system.ts";
import { LocalStorage } from "../local-storage.ts";
import { hasReflink } from "../reflink.ts";
import type { SpeedOrder, WriteSpeed } from "./speed-thread.ts";

const MIB = 2 ** 20;
/** One name, so that what a crash leaves goes with the next measurement. */
const DIRECTORY = ".caisson-speed";
const LOCK = "lock";
const POOL = "pool";
const VOLUME = "volume";
const IMAGE_ID = "vol_speed";
const POOL_BYTES = 1024 * MIB;
const VOLUME_BYTES = 512 * MIB;
/** What both measurements write, and the file systems' own blocks. */
const NEEDED_BYTES = 512 * MIB;
const LOCK_WAIT_MS = 100;

export interface Speed {
  /** Overwrites of 4 KiB that are each on stable storage before the next (`fdatasync`). */
  readonly syncsPerSecond: number;
  readonly writtenBytesPerSecond: number;
  /** Without the page cache of the file system that is read. */
  readonly readBytesPerSecond: number;
}

export interface DiskSpeed {
  /** Of the directory's own file system. */
  readonly disk: Speed;
  /** Of a volume in a pool on it. */
  readonly volume: Speed;
  /** Whether the pool needs a file system in a file of its own there, because the directory's has no reflink. */
  readonly hasPoolFile: boolean;
}

/**
 * Measures what a disk does, and what of that is left in a volume on it: with a pool and a volume of its own, below `directory`, which go again. Takes up
 * to three seconds, on a disk that is not very slow, and needs a mount namespace of the caller's own. `STORAGE_FULL`: the disk is too full for it.
 */
export async function measureDiskSpeed(directory: string): Promise<DiskSpeed> {
  const { availableBytes } = await readSpace(directory);
  if (availableBytes < NEEDED_BYTES) {
    throw new CaissonError(
      "STORAGE_FULL",
      `Cannot measure the disk of ${directory}: that needs ${formatSize(NEEDED_BYTES)}, and ${formatSize(availableBytes)} are free`,
    );
  }
  const own = join(directory, DIRECTORY);
  await mkdir(own, { recursive: true, mode: 0o700 });
  await using _lock = await lockFile(join(own, LOCK), { signal: AbortSignal.timeout(LOCK_WAIT_MS) });
  try {
    await clear(own);
    const disk = await measure(own);
    return { disk, ...(await measureVolume(own)) };
  } finally {
    await clear(own);
    await rm(own, { recursive: true, force: true });
  }
}

async function measureVolume(own: string): Promise<Omit<DiskSpeed, "disk">> {
  const [pool, target] = [join(own, POOL), join(own, VOLUME)];
  await mkdir(pool);
  await mkdir(target);
  const hasPoolFile = !(await hasReflink(pool));
  await using storage = await LocalStorage.open({
    directory: pool,
    reserveBytes: 0,
    ...(hasPoolFile ? { poolSizeBytes: POOL_BYTES } : {}),
  });
  await storage.createImage(IMAGE_ID, { sizeBytes: VOLUME_BYTES });
  const device = await storage.attach(IMAGE_ID, "rw");
  try {
    await formatFileSystem(device.path, "data");
    await mountVolume({ device: device.path, target, kind: "data", isReadOnly: false });
    try {
      return { volume: await measure(target), hasPoolFile };
    } finally {
      await unmountVolume(target);
    }
  } finally {
    await storage.detach(device);
  }
}

async function measure(directory: string): Promise<Speed> {
  const order: SpeedOrder = {
    overwrittenPath: join(directory, "overwritten"),
    writtenPath: join(directory, "written"),
  };
  const { writtenBytes, ...written } = await runThread(order);
  const startMs = performance.now();
  await runTool("dd", [`if=${order.writtenPath}`, "of=/dev/null", "bs=4M", "iflag=direct"]);
  const readBytesPerSecond = (1000 * writtenBytes) / (performance.now() - startMs);
  for (const path of Object.values(order)) await rm(path);
  return { ...written, readBytesPerSecond };
}

/** In a thread, because synced writes block, and what keeps processors awake for them must not be kept from it. */
function runThread(order: SpeedOrder): Promise<WriteSpeed> {
  const { promise, resolve, reject } = Promise.withResolvers<WriteSpeed>();
  const thread = new Worker(join(import.meta.dirname, "speed-thread.ts"), { workerData: order });
  thread.once("message", resolve).once("error", reject);
  return promise;
}

/** Removes everything but the lock, also what an earlier measurement outside a mount namespace of its own has left mounted. */
async function clear(own: string): Promise<void> {
  for (const target of [join(own, VOLUME), join(own, POOL, "mount")])
    if ((await findMount(target)) !== null) await unmount(target);
  for (const name of await readdir(own)) if (name !== LOCK) await rm(join(own, name), { recursive: true });
}
