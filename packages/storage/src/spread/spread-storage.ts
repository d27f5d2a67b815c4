import { stat } from "node:fs/promises";
import { join } from "node:path";
import { KeyedLock, settleAll } from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import type {
  AttachMode,
  BlockDevice,
  BlockImage,
  Capacity,
  CreateImageOptions,
  DiskCapacity,
  DiskSpace,
  FillableImage,
  ImageId,
  ImagePart,
  ImagePiece,
  ImagePlace,
  ImageUsage,
  OpenImage,
  PoolCapacity,
  SealOptions,
  SealReport,
  StorageDriver,
  UsageOptions,
} from "../driver.ts";
import { FULL_ADVICE, LOCAL_CAPABILITIES, LocalStorage, type LocalStorageOptions } from "../local/local-storage.ts";
import {
  type Disk,
  type FurtherDisk,
  findUnnamed,
  isUsable,
  openDisk,
  requireUsable,
  type UsableDisk,
} from "./disk.ts";
import { DiskFailures } from "./disk-failures.ts";
import { DiskRegister } from "./disk-register.ts";
import { findLostPool } from "./lost-register.ts";

export interface SpreadStorageOptions extends LocalStorageOptions {
  readonly disks: readonly FurtherDisk[];
  /** Told why a disk cannot be used, or fails while it is used: once, until it works again; and that a register of disks was lost. */
  readonly onProblem: (directory: string, problem: string) => void;
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
 * and they are back with the disk, at the next start. One that fails later is left out of what concerns all disks; the pool has no room there meanwhile.
 */
export class SpreadStorage implements StorageDriver {
  readonly name = "local";
  readonly capabilities = LOCAL_CAPABILITIES;
  readonly #register: DiskRegister;
  readonly #first: UsableDisk;
  readonly #further: readonly Disk[];
  readonly #failures: DiskFailures;
  readonly #turns = new KeyedLock();
  /** Copies to one disk wait for each other, so that none takes the room that another one has found. */
  readonly #copies = new KeyedLock();

  private constructor(
    register: DiskRegister,
    { first, further }: { readonly first: UsableDisk; readonly further: readonly Disk[] },
    failures: DiskFailures,
  ) {
    this.#register = register;
    this.#first = first;
    this.#further = further;
    this.#failures = failures;
  }

  static async open({ disks, onProblem, ...options }: SpreadStorageOptions): Promise<SpreadStorage> {
    await using opened = new AsyncDisposableStack();
    const first = opened.use(await LocalStorage.open(options));
    const register = await DiskRegister.open(options.directory, async (hasPlaces) => {
      const remains = { directory: options.directory, first, hasPlaces, disks: disks.map((disk) => disk.directory) };
      const pool = await findLostPool(remains);
      if (pool !== null) {
        const found = `The register of disks ${join(options.directory, "disks.json")} was missing, and is made again: the further disks carry the marks of one pool (${pool}), which is taken for this one`;
        onProblem(options.directory, found);
      }
      return pool;
    });
    const further: Disk[] = [];
    const devices = new Set([(await stat(options.directory)).dev]);
    for (const wanted of disks) {
      const disk = await openDisk(wanted, options, { register, devices, further });
      if (disk.storage !== null) opened.use(disk.storage);
      further.push(disk);
    }
    further.push(...(await findUnnamed(register, further)));
    for (const { directory, problem } of further) if (problem !== null) onProblem(directory, problem);
    opened.move();
    const { directory } = options;
    const all = { first: { id: null, directory, storage: first, problem: null }, further };
    return new SpreadStorage(register, all, new DiskFailures(onProblem));
  }

  async createImage(id: ImageId, options: CreateImageOptions): Promise<void> {
    await this.#turns.run(id, async () => {
      const { disk, base } = await this.#chooseDisk(id, options);
      await this.#makeOn(disk, id, () =>
        base === null ? disk.storage.createImage(id, options) : this.#copyImage(id, options, disk, base),
      );
    });
  }

  async sealImage(source: ImageId, id: ImageId, options?: SealOptions): Promise<SealReport> {
    return this.#turns.run(id, async () => {
      const disk = this.#diskOf(source, `seal image ${source} as ${id}`);
      return this.#makeOn(disk, id, () => disk.storage.sealImage(source, id, options));
    });
  }

  async createSealed(id: ImageId, fill: (image: FillableImage) => Promise<void>): Promise<void> {
    await this.#turns.run(id, async () => {
      const { disk } = await this.#chooseDisk(id, {});
      await this.#makeOn(disk, id, () => disk.storage.createSealed(id, fill));
    });
  }

  async openSealed(id: ImageId): Promise<OpenImage> {
    return this.#diskOf(id, `open image ${id}`).storage.openSealed(id);
  }

  async compareSealed(id: ImageId, base: ImageId): Promise<readonly ImagePart[] | null> {
    if (this.#placeOf(base) !== this.#placeOf(id)) return null;
    return this.#diskOf(id, `compare image ${id} with ${base}`).storage.compareSealed(id, base);
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
    for (const { directory, storage } of this.#usable()) {
      const list = (): Promise<readonly BlockImage[]> => Array.fromAsync(storage.listImages());
      yield* (await this.#failures.run("list the images of", directory, list)).answer ?? [];
    }
  }

  async storedBytes(id: ImageId): Promise<number> {
    return (await this.#placeOf(id).storage?.storedBytes(id)) ?? 0;
  }

  spaceNow(directory: string, ids: readonly ImageId[]): DiskSpace {
    const disk = this.#diskAt(directory);
    if (disk === undefined)
      throw new CaissonError("DISK_UNAVAILABLE", `Cannot look at ${directory}: it is no disk of the pool`);
    return requireUsable(disk, `look at ${directory}`).storage.spaceNow(directory, ids);
  }

  async capacity(): Promise<PoolCapacity> {
    const disks = await Promise.all([this.#first, ...this.#further].map((disk) => this.#measure(disk)));
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
    const disk = this.#diskAt(directory);
    const action = `grow the pool ${directory} to ${formatSize(sizeBytes)}`;
    if (disk === undefined) {
      const message = `Cannot ${action}: the server runs without that disk. Start it again`;
      throw new CaissonError("INVALID_CAPACITY", message);
    }
    await requireUsable(disk, action).storage.growPool(sizeBytes);
  }

  /** Removes the spare clones of disks that need room; they are made again when there is room and they are wanted. */
  async evictSpares(): Promise<void> {
    for (const disk of this.#usable()) {
      const { problem, availableBytes, headroomBytes } = await this.#measure(disk);
      if (problem !== null || availableBytes >= headroomBytes) continue;
      await this.#failures.run("evict spare clones of", disk.directory, () => disk.storage.evictSpares());
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

  #diskAt(directory: string): Disk | undefined {
    return [this.#first, ...this.#further].find((disk) => disk.directory === directory);
  }

  #diskOf(id: ImageId, action: string): UsableDisk {
    return requireUsable(this.#placeOf(id), action);
  }

  /** Where an image is to be made: where it is already, with its base, or where there is most room. `base`: it must be copied from there. */
  async #chooseDisk(
    id: ImageId,
    { parent, isEphemeral = false }: Pick<CreateImageOptions, "parent" | "isEphemeral">,
  ): Promise<{ readonly disk: UsableDisk; readonly base: UsableDisk | null }> {
    if (this.#further.length === 0) return { disk: this.#first, base: null };
    const action = `create image ${id}`;
    const home = parent === undefined ? null : this.#diskOf(parent, action);
    if (this.#register.diskOf(id) !== null || (await this.#first.storage.getImage(id)) !== null) {
      const disk = this.#diskOf(id, action);
      const isMade = home === disk || (await disk.storage.getImage(id)) !== null;
      return { disk, base: isMade ? null : home };
    }
    const usable = this.#usable();
    const isBound = usable.length === 1 || (home !== null && isEphemeral) || id.startsWith(OF_SERVER);
    if (isBound) return { disk: home ?? this.#first, base: null };
    const measured = await Promise.all(usable.map(async (disk) => ({ disk, capacity: await this.#measure(disk) })));
    const rooms = measured.filter(({ capacity }) => capacity.problem === null);
    const [roomiest] = rooms.toSorted((a, b) => b.capacity.availableBytes - a.capacity.availableBytes);
    if (home === null || parent === undefined) return { disk: roomiest?.disk ?? this.#first, base: null };
    const room = rooms.find(({ disk }) => disk === home)?.capacity;
    const isFull = room !== undefined && room.availableBytes < room.headroomBytes;
    if (!isFull || roomiest === undefined) return { disk: home, base: null };
    const isCopied = hasRoomFor(await home.storage.storedBytes(parent), roomiest.capacity);
    return isCopied ? { disk: roomiest.disk, base: home } : { disk: home, base: null };
  }

  /** Makes an image on the disk, with its place written down first. Where it could not be made, that is forgotten again. */
  async #makeOn<T>(disk: UsableDisk, id: ImageId, make: () => Promise<T>): Promise<T> {
    if (disk.id !== null) await this.#register.place(id, disk.id);
    try {
      return await make();
    } catch (error) {
      await this.#failures.run("clean up on", disk.directory, async () => {
        if ((await disk.storage.getImage(id)) === null) await this.#register.displace(id);
      });
      throw error;
    }
  }

  async #copyImage(
    id: ImageId,
    { parent, sizeBytes }: CreateImageOptions,
    disk: UsableDisk,
    base: UsableDisk,
  ): Promise<void> {
    const action = `create image ${id}`;
    if (parent === undefined) throw new CaissonError("INTERNAL_ERROR", `Cannot ${action}: it has no parent`);
    const copy = async (): Promise<void> => {
      const contents = await base.storage.contentsOf(parent, sizeBytes, action);
      const capacity = await disk.storage.capacity();
      const storedBytes = await base.storage.storedBytes(parent);
      if (!hasRoomFor(storedBytes, capacity)) {
        const room = `${formatSize(capacity.availableBytes)} available, beside a headroom of ${formatSize(capacity.headroomBytes)}`;
        const message = `the disk of ${parent} is full, and a copy of it takes ${formatSize(storedBytes)}, while ${disk.directory} has ${room}`;
        throw new CaissonError("STORAGE_FULL", `Cannot ${action}: ${message}. ${FULL_ADVICE}`);
      }
      await disk.storage.createImage(id, { sizeBytes, contents });
    };
    // Nobody deletes the parent meanwhile.
    await this.#turns.run(parent, () => this.#copies.run(disk.directory, copy));
  }

  /** Never throws while the pool is open: of a disk that fails the answer tells the problem. */
  async #measure({ directory, storage, problem }: Disk): Promise<DiskCapacity> {
    if (storage === null) return { ...NOTHING, directory, problem };
    const measured = await this.#failures.run("measure", directory, () => storage.capacity());
    if (measured.answer === null) return { ...NOTHING, directory, problem: measured.problem };
    const { totalBytes, availableBytes, freeBytes, headroomBytes } = measured.answer;
    return { totalBytes, availableBytes, freeBytes, headroomBytes, directory, problem: null };
  }
}

/** Whether so many bytes leave a disk its headroom, and as much again for what is written to it meanwhile. */
function hasRoomFor(bytes: number, { availableBytes, headroomBytes }: Capacity): boolean {
  return availableBytes > bytes + headroomBytes;
}
