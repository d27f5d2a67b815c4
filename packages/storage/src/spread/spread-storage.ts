import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasErrorCode, KeyedLock, settleAll } from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import type {
  AttachMode,
  BlockDevice,
  BlockImage,
  Capacity,
  CreateImageOptions,
  DiskCapacity,
  DiskSpace,
  ImageId,
  ImagePiece,
  ImagePlace,
  ImageUsage,
  PoolCapacity,
  SealOptions,
  SealReport,
  StorageDriver,
  UsageOptions,
} from "../driver.ts";
import { LocalStorage, type LocalStorageOptions } from "../local/local-storage.ts";
import { DiskRegister, markDisk, markPath, readMark } from "./disk-register.ts";

export interface SpreadStorageOptions extends LocalStorageOptions {
  /** Further disks, each a directory on a file system of its own. Its parent must be there; it is made. */
  readonly disks: readonly FurtherDisk[];
  /** Told why a disk cannot be used. */
  readonly onProblem: (directory: string, problem: string) => void;
}

export interface FurtherDisk {
  readonly directory: string;
  /** As `LocalStorageOptions.poolSizeBytes`. */
  readonly poolSizeBytes?: number;
}

/** A disk of the pool. */
interface Disk {
  /** Null: the first one, or one that cannot be used and never was. */
  readonly id: string | null;
  readonly directory: string;
  /** Null: it cannot be used, for the reason that `problem` tells. */
  readonly storage: LocalStorage | null;
  readonly problem: string | null;
}

interface UsableDisk extends Disk {
  readonly storage: LocalStorage;
}

/** Built-in images and the template of scratch disks: they lie on the first disk, because the server cannot start without them. */
const OF_SERVER = "img_";
const NOTHING: Capacity = { totalBytes: 0, availableBytes: 0, freeBytes: 0, headroomBytes: 0 };

/**
 * A pool on several disks, each with a local pool of its own. A new image goes where there is most room; a clone stays with its base, whose blocks it
 * shares, unless there is no room and another disk can take a copy of the whole. Snapshots lie with their volumes, what is ephemeral with its base, and what
 * the server itself needs on the first disk.
 *
 * Which image lies where is written down on the first disk (`disk-register.ts`) before the image is made, and forgotten after it is gone. A disk that is
 * missing, damaged, or another one than was there keeps nobody from the others: its images are known, calls about them fail with `DISK_UNAVAILABLE`,
 * and they are back with the disk, at the next start.
 */
export class SpreadStorage implements StorageDriver {
  readonly name = "local";
  readonly #register: DiskRegister;
  readonly #first: UsableDisk;
  readonly #further: readonly Disk[];
  readonly #turns = new KeyedLock();

  private constructor(register: DiskRegister, first: UsableDisk, further: readonly Disk[]) {
    this.#register = register;
    this.#first = first;
    this.#further = further;
  }

  static async open({ disks, onProblem, ...options }: SpreadStorageOptions): Promise<SpreadStorage> {
    await using opened = new AsyncDisposableStack();
    const first = opened.use(await LocalStorage.open(options));
    const register = await DiskRegister.open(options.directory);
    const further: Disk[] = [];
    const devices = new Set([(await stat(options.directory)).dev]);
    for (const wanted of disks) {
      const disk = await openDisk(wanted, options, { register, devices, further });
      if (disk.storage !== null) opened.use(disk.storage);
      further.push(disk);
    }
    further.push(...(await findUnnamed(register, further)));
    for (const { directory, problem } of further) if (problem !== null) onProblem(directory, problem);
    const { directory } = options;
    const storage = new SpreadStorage(register, { id: null, directory, storage: first, problem: null }, further);
    await storage.#reconcile();
    opened.move();
    return storage;
  }

  async createImage(id: ImageId, options: CreateImageOptions): Promise<void> {
    await this.#turns.run(id, async () => {
      const { disk, base } = await this.#chooseDisk(id, options);
      if (disk.id !== null) await this.#register.place(id, disk.id);
      if (base === null) await disk.storage.createImage(id, options);
      else await this.#copyImage(id, options, disk, base);
    });
  }

  async sealImage(source: ImageId, id: ImageId, options?: SealOptions): Promise<SealReport> {
    return this.#turns.run(id, async () => {
      const disk = this.#diskOf(source, `seal image ${source} as ${id}`);
      if (disk.id !== null) await this.#register.place(id, disk.id);
      return disk.storage.sealImage(source, id, options);
    });
  }

  async growImage(id: ImageId, sizeBytes: number): Promise<void> {
    await this.#diskOf(id, `grow image ${id}`).storage.growImage(id, sizeBytes);
  }

  async deleteImage(id: ImageId): Promise<void> {
    await this.#turns.run(id, async () => {
      await this.#diskOf(id, `delete image ${id}`).storage.deleteImage(id);
      await this.#register.displace(id);
    });
  }

  async attach(id: ImageId, mode: AttachMode): Promise<BlockDevice> {
    return this.#diskOf(id, `attach image ${id}`).storage.attach(id, mode);
  }

  async detach(device: BlockDevice): Promise<void> {
    await this.#diskOf(device.imageId, `detach ${device.path}`).storage.detach(device);
  }

  async usage(id: ImageId, options: UsageOptions = {}): Promise<ImageUsage | null> {
    const disk = this.#placeOf(id);
    if (!isUsable(disk)) return null;
    // With a base on another disk it shares nothing.
    const isApart = options.base != null && this.#placeOf(options.base) !== disk;
    return disk.storage.usage(id, isApart ? { ...options, base: null } : options);
  }

  async getImage(id: ImageId): Promise<BlockImage | null> {
    return this.#diskOf(id, `get image ${id}`).storage.getImage(id);
  }

  async readPieces(id: ImageId): Promise<readonly ImagePiece[]> {
    return this.#diskOf(id, `read image ${id}`).storage.readPieces(id);
  }

  async read(id: ImageId, offset: number, length: number): Promise<Buffer> {
    return this.#diskOf(id, `read image ${id}`).storage.read(id, offset, length);
  }

  async *listImages(): AsyncGenerator<BlockImage> {
    for (const { storage } of this.#usable()) yield* storage.listImages();
  }

  async storedBytes(id: ImageId): Promise<number> {
    return (await this.#placeOf(id).storage?.storedBytes(id)) ?? 0;
  }

  spacesNow(ids: readonly ImageId[]): readonly DiskSpace[] {
    return this.#usable().flatMap((disk) => disk.storage.spacesNow(ids.filter((id) => this.#placeOf(id) === disk)));
  }

  async capacity(): Promise<PoolCapacity> {
    const disks = await Promise.all([this.#first, ...this.#further].map(measureDisk));
    const sum = (pick: (disk: Capacity) => number): number => disks.reduce((bytes, disk) => bytes + pick(disk), 0);
    return {
      totalBytes: sum(({ totalBytes }) => totalBytes),
      availableBytes: sum(({ availableBytes }) => availableBytes),
      freeBytes: sum(({ freeBytes }) => freeBytes),
      headroomBytes: sum(({ headroomBytes }) => headroomBytes),
      disks,
    };
  }

  placeOf(id: ImageId): ImagePlace {
    const { directory, problem } = this.#placeOf(id);
    return { directory, problem };
  }

  async growPool(sizeBytes: number, directory = this.#first.directory): Promise<void> {
    const disk = [this.#first, ...this.#further].find((one) => one.directory === directory);
    const action = `grow the pool ${directory} to ${formatSize(sizeBytes)}`;
    if (disk === undefined) {
      const message = `Cannot ${action}: the server runs without that disk. Start it again`;
      throw new CaissonError("INVALID_CAPACITY", message);
    }
    await requireUsable(disk, action).storage.growPool(sizeBytes);
  }

  /** Removes the spare clones of disks that need room; they are made again when there is room and they are wanted. */
  async evictSpares(): Promise<void> {
    for (const { storage } of this.#usable()) {
      const { availableBytes, headroomBytes } = await storage.capacity();
      if (availableBytes < headroomBytes) await storage.evictSpares();
    }
  }

  /** Resolves when every spare clone that is wanted is made. */
  async sparesMade(): Promise<void> {
    await Promise.all(this.#usable().map(({ storage }) => storage.sparesMade()));
  }

  async close(): Promise<void> {
    await this.#turns.idle();
    await settleAll(this.#usable().map(({ storage }) => storage.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #usable(): readonly UsableDisk[] {
    return [this.#first, ...this.#further].filter(isUsable);
  }

  #placeOf(id: ImageId): Disk {
    const diskId = this.#register.diskOf(id);
    if (diskId === null) return this.#first;
    const disk = this.#further.find(({ id: further }) => further === diskId);
    if (disk !== undefined) return disk;
    // Not the first one: there it would look like an image that is gone, and its deletion would succeed.
    const problem = `Cannot use the disk ${diskId}: ${join(this.#first.directory, "disks.json")} does not tell of it. Restore that file from a backup`;
    return { id: diskId, directory: diskId, storage: null, problem };
  }

  #diskOf(id: ImageId, action: string): UsableDisk {
    return requireUsable(this.#placeOf(id), action);
  }

  /** Where an image is to be made: where it is already, with its base, or where there is most room. `base`: it must be copied from there. */
  async #chooseDisk(
    id: ImageId,
    { parent, isEphemeral = false }: CreateImageOptions,
  ): Promise<{ readonly disk: UsableDisk; readonly base: UsableDisk | null }> {
    if (this.#further.length === 0) return { disk: this.#first, base: null };
    const action = `create image ${id}`;
    const home = parent === undefined ? null : this.#diskOf(parent, action);
    if (this.#register.diskOf(id) !== null || (await this.#first.storage.getImage(id)) !== null) {
      const disk = this.#diskOf(id, action);
      return { disk, base: home === disk ? null : home };
    }
    const usable = this.#usable();
    const isBound = usable.length === 1 || (home !== null && isEphemeral) || id.startsWith(OF_SERVER);
    if (isBound) return { disk: home ?? this.#first, base: null };
    const rooms = await Promise.all(usable.map(async (disk) => ({ disk, ...(await disk.storage.capacity()) })));
    const [roomiest] = rooms.toSorted((a, b) => b.availableBytes - a.availableBytes);
    const room = rooms.find(({ disk }) => disk === home);
    if (roomiest === undefined || home === null || parent === undefined || room === undefined)
      return { disk: roomiest?.disk ?? this.#first, base: null };
    const neededBytes = (await home.storage.storedBytes(parent)) + roomiest.headroomBytes;
    const isCopied = room.availableBytes < room.headroomBytes && roomiest.availableBytes > neededBytes;
    return isCopied ? { disk: roomiest.disk, base: home } : { disk: home, base: null };
  }

  async #copyImage(
    id: ImageId,
    { parent, sizeBytes }: CreateImageOptions,
    disk: UsableDisk,
    base: UsableDisk,
  ): Promise<void> {
    if (parent === undefined) throw new CaissonError("INTERNAL_ERROR", `Cannot create image ${id}: it has no parent`);
    // Nobody deletes the parent meanwhile.
    await this.#turns.run(parent, async () => {
      const contents = await base.storage.contentsOf(parent, sizeBytes, `create image ${id}`);
      await disk.storage.createImage(id, { sizeBytes, contents });
    });
  }

  /** Settles what a crash has left between the register and the disks. */
  async #reconcile(): Promise<void> {
    for (const { id: diskId, storage } of this.#usable()) {
      if (diskId === null) continue;
      const there = new Set<ImageId>();
      for await (const { id } of storage.listImages()) there.add(id);
      for (const id of there) if (this.#register.diskOf(id) === null) await this.#register.place(id, diskId);
      for (const id of this.#register.imagesOn(diskId)) if (!there.has(id)) await this.#register.displace(id);
    }
  }
}

function isUsable(disk: Disk): disk is UsableDisk {
  return disk.storage !== null;
}

function requireUsable(disk: Disk, action: string): UsableDisk {
  if (isUsable(disk)) return disk;
  throw new CaissonError(
    "DISK_UNAVAILABLE",
    `Cannot ${action}: it lies on a disk that cannot be used. ${disk.problem}`,
  );
}

async function measureDisk({ directory, storage, problem }: Disk): Promise<DiskCapacity> {
  if (storage === null) return { ...NOTHING, directory, problem };
  const { totalBytes, availableBytes, freeBytes, headroomBytes } = await storage.capacity();
  return { totalBytes, availableBytes, freeBytes, headroomBytes, directory, problem };
}

/** What is known while disks are opened, one after the other. */
interface Opened {
  readonly register: DiskRegister;
  /** The disks so far, and the devices that they and the first one are on. */
  readonly further: readonly Disk[];
  readonly devices: Set<number>;
}

/** Never throws: a disk that cannot be opened has a problem. */
async function openDisk(
  { directory, poolSizeBytes }: FurtherDisk,
  options: LocalStorageOptions,
  opened: Opened,
): Promise<Disk> {
  const { register } = opened;
  const known = register.disks.find((disk) => disk.directory === directory)?.id ?? null;
  try {
    const id = await recognize(directory, opened);
    const { poolSizeBytes: _ofFirst, ...shared } = options;
    const storage = await LocalStorage.open({
      ...shared,
      directory,
      ...(poolSizeBytes === undefined ? {} : { poolSizeBytes }),
    });
    return { id, directory, storage, problem: null };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return { id: known, directory, storage: null, problem };
  }
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
async function findUnnamed(register: DiskRegister, named: readonly Disk[]): Promise<readonly Disk[]> {
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
