import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ImageId } from "../driver.ts";
import { LocalStorage, type LocalStorageOptions } from "../local/local-storage.ts";
import { type DiskRegister, markDisk, markPath, readMark } from "./disk-register.ts";

export interface FurtherDisk {
  /** On a file system of its own. Its parent must be there; it is made. */
  readonly directory: string;
  /** As `LocalStorageOptions.poolSizeBytes`. */
  readonly poolSizeBytes?: number;
}

/** A disk of the pool. */
export interface Disk {
  /** Null: the first one, or one that cannot be used and never was. */
  readonly id: string | null;
  readonly directory: string;
  /** Null: it cannot be used, for the reason that `problem` tells. */
  readonly storage: LocalStorage | null;
  readonly problem: string | null;
}

export interface UsableDisk extends Disk {
  readonly storage: LocalStorage;
}

export function isUsable(disk: Disk): disk is UsableDisk {
  return disk.storage !== null;
}

export function requireUsable(disk: Disk, action: string): UsableDisk {
  if (isUsable(disk)) return disk;
  throw new CaissonError(
    "DISK_UNAVAILABLE",
    `Cannot ${action}: it lies on a disk that cannot be used. ${disk.problem}`,
  );
}

/** What is known while disks are opened, one after the other. */
interface Opened {
  readonly register: DiskRegister;
  /** The disks so far, and the devices that they and the first one are on. */
  readonly further: readonly Disk[];
  readonly devices: Set<number>;
}

/** Opens a disk and settles what a crash has left on it. Never throws: a disk that cannot be opened has a problem. */
export async function openDisk(
  { directory, poolSizeBytes }: FurtherDisk,
  options: LocalStorageOptions,
  opened: Opened,
): Promise<Disk> {
  const { register } = opened;
  const known = register.disks.find((disk) => disk.directory === directory)?.id ?? null;
  try {
    const id = await recognize(directory, opened);
    const { poolSizeBytes: _ofFirst, ...shared } = options;
    await using opening = new AsyncDisposableStack();
    const storage = opening.use(
      await LocalStorage.open({ ...shared, directory, ...(poolSizeBytes === undefined ? {} : { poolSizeBytes }) }),
    );
    await settlePlaces(register, id, storage);
    opening.move();
    return { id, directory, storage, problem: null };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return { id: known, directory, storage: null, problem };
  }
}

/** Settles what a crash has left between the register and the disk. */
async function settlePlaces(register: DiskRegister, diskId: string, storage: LocalStorage): Promise<void> {
  const there = new Set<ImageId>();
  for await (const { id } of storage.listImages()) there.add(id);
  for (const id of there) if (register.diskOf(id) === null) await register.place(id, diskId);
  for (const id of register.imagesOn(diskId)) if (!there.has(id)) await register.displace(id);
}

/** The id of the disk at the directory. One that is new to the pool is marked first and entered then, so that a crash in between loses nothing. */
async function recognize(directory: string, { register, further, devices }: Opened): Promise<string> {
  const known = register.disks.find((disk) => disk.directory === directory);
  const mark = await readMark(directory);
  if (mark === null && known !== undefined) {
    throw problemOf(
      directory,
      `its disk is not mounted there (${markPath(directory)} is missing). Mount it, then start the server again`,
    );
  }
  if (mark !== null && mark.pool !== register.poolId)
    throw problemOf(directory, `it belongs to another pool (${markPath(directory)}). Name a directory of its own`);
  const twin = further.find(({ id, storage }) => storage !== null && id === mark?.id);
  if (twin !== undefined)
    throw problemOf(directory, `it is a copy of the disk ${twin.directory}. Name only the one that was in use last`);
  if (mark === null) {
    await makeDirectory(directory);
    if (devices.has((await stat(directory)).dev)) {
      throw problemOf(
        directory,
        "it lies on the same file system as another disk of the pool. Mount the disk there, or name another directory, then start the server again",
      );
    }
  }
  const { id } = mark ?? (await markDisk(directory, register.poolId));
  await register.enter({ id, directory });
  devices.add((await stat(directory)).dev);
  return id;
}

async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    if (hasErrorCode(error, "EEXIST")) return;
    if (!hasErrorCode(error, "ENOENT")) throw error;
    throw problemOf(
      directory,
      `${dirname(directory)} does not exist. Make it, mount the disk there, and start the server again`,
    );
  }
}

/** Disks of earlier runs that the settings name no more. One that holds nothing is forgotten. */
export async function findUnnamed(register: DiskRegister, named: readonly Disk[]): Promise<readonly Disk[]> {
  const unnamed: Disk[] = [];
  for (const { id, directory } of register.disks) {
    if (named.some((disk) => disk.id === id)) continue;
    const count = register.imagesOn(id).length;
    if (count === 0) {
      await register.forget(id);
      continue;
    }
    const problem = `Cannot use the disk ${directory}: the settings do not name it any more, and ${count} images lie on it. Name it again`;
    unnamed.push({ id, directory, storage: null, problem });
  }
  return unnamed;
}

function problemOf(directory: string, reason: string): CaissonError {
  return new CaissonError("DISK_UNAVAILABLE", `Cannot use the disk ${directory}: ${reason}`);
}
