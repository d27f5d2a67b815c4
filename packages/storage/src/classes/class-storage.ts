import { KeyedLock, settleAll, step } from "@caisson/linux";
import { CaissonError, classOfId, type DiskClass } from "@caisson/model";
import type {
  AttachMode,
  BlockDevice,
  BlockImage,
  Capacity,
  CreateImageOptions,
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
  SharedStorageDriver,
  StorageCapabilities,
  StorageDriver,
  UsageOptions,
} from "../driver.ts";
import { ReplicatedPool, type ReplicatedPoolOptions } from "./replicated-pool.ts";

/** What is copied at a time. */
const PIECE_BYTES = 2 ** 20;
const NO_POOL =
  'the settings name no replicated pool. Name the one that it lies in under "[replicated]" in caisson.toml, and start the server again';

export interface ClassStorageOptions {
  /** The local pool. It is closed with this driver. */
  readonly local: StorageDriver;
  /** Null: there is none. */
  readonly replicated: ReplicatedPoolOptions | null;
  /** Told why the replicated pool cannot be used: once, until it can be again. */
  readonly onProblem: (directory: string, problem: string) => void;
  /** Default: as ids of disks tell. */
  readonly classOf?: (id: ImageId) => DiskClass;
}

/**
 * A local and a replicated pool behind one driver. The id of an image says in which of them it lies, so that nothing is written down here that a crash could
 * leave half done, that could be lost with this machine, or that another machine with the same replicated pool would lack.
 *
 * Snapshots lie with their volumes. A clone of an image of the other class is a whole copy. It is made in two steps, so that it becomes visible as a whole: a
 * sealed copy of the parent in the pool of the clone, `cpy_<id>`, and a clone of that, which shares all with it; then the sealed copy goes. What a crash leaves
 * of it goes with the clone, when that is created again or deleted.
 *
 * A replicated pool that cannot be reached keeps nobody from the local one: calls about its images fail with `DISK_UNAVAILABLE`, and it is opened again by itself.
 */
export class ClassStorage implements StorageDriver {
  readonly name = "classes";
  readonly #local: StorageDriver;
  readonly #replicated: ReplicatedPool | null;
  readonly #classOf: (id: ImageId) => DiskClass;
  readonly #turns = new KeyedLock();

  private constructor(
    local: StorageDriver,
    replicated: ReplicatedPool | null,
    classOf: (id: ImageId) => DiskClass = classOfId,
  ) {
    this.#local = local;
    this.#replicated = replicated;
    this.#classOf = (id) => classOf(id.startsWith(COPY) ? id.slice(COPY.length) : id);
  }

  /** Does not fail when the replicated pool cannot be opened. */
  static async open({ local, replicated, onProblem, classOf }: ClassStorageOptions): Promise<ClassStorage> {
    const pool = replicated === null ? null : new ReplicatedPool(replicated, onProblem);
    await pool?.open();
    return new ClassStorage(local, pool, classOf);
  }

  /** What both can do, while both are open. */
  get capabilities(): StorageCapabilities {
    const [here, there] = [this.#local.capabilities, this.#replicated?.driver?.capabilities];
    if (there === undefined) return here;
    return {
      unitBytes: Math.max(here.unitBytes, there.unitBytes),
      failsWhenFull: here.failsWhenFull && there.failsWhenFull,
      hasSpaceNow: here.hasSpaceNow && there.hasSpaceNow,
      // Its own calls say nothing of who else uses the replicated pool.
      isShared: false,
    };
  }

  async createImage(id: ImageId, options: CreateImageOptions): Promise<void> {
    const target = this.#poolOf(id, `create image ${id}`);
    const { parent } = options;
    if (parent === undefined || this.#classOf(parent) === this.#classOf(id)) await target.createImage(id, options);
    else await this.#turns.run(id, () => this.#createCopy(id, { ...options, parent }, target));
  }

  async sealImage(source: ImageId, id: ImageId, options?: SealOptions): Promise<SealReport> {
    const action = `seal image ${source} as ${id}`;
    if (this.#classOf(source) !== this.#classOf(id))
      throw new CaissonError("INTERNAL_ERROR", `Cannot ${action}: a snapshot lies with its volume`);
    return this.#poolOf(source, action).sealImage(source, id, options);
  }

  async createSealed(id: ImageId, fill: (image: FillableImage) => Promise<void>): Promise<void> {
    await this.#poolOf(id, `create image ${id}`).createSealed(id, fill);
  }

  async openSealed(id: ImageId): Promise<OpenImage> {
    return this.#poolOf(id, `open image ${id}`).openSealed(id);
  }

  async compareSealed(id: ImageId, base: ImageId): Promise<readonly ImagePart[] | null> {
    const pool = this.#poolOf(id, `compare image ${id} with ${base}`);
    return this.#openPoolOf(base) === pool ? pool.compareSealed(id, base) : null;
  }

  async growImage(id: ImageId, sizeBytes: number): Promise<void> {
    await this.#poolOf(id, `grow image ${id}`).growImage(id, sizeBytes);
  }

  async deleteImage(id: ImageId): Promise<void> {
    const pool = this.#poolOf(id, `delete image ${id}`);
    await this.#turns.run(id, async () => {
      await pool.deleteImage(id);
      if (canBeCopied(id)) await pool.deleteImage(copyFor(id));
    });
  }

  async attach(id: ImageId, mode: AttachMode): Promise<BlockDevice> {
    return this.#poolOf(id, `attach image ${id}`).attach(id, mode);
  }

  async detach(device: BlockDevice): Promise<void> {
    await this.#poolOf(device.imageId, `detach ${device.path}`).detach(device);
  }

  async usage(id: ImageId, options: UsageOptions = {}): Promise<ImageUsage | null> {
    const pool = this.#openPoolOf(id);
    if (pool === null) return null;
    const { base = null } = options;
    // With a base in the other pool it shares nothing.
    const isApart = base !== null && this.#classOf(base) !== this.#classOf(id);
    return pool.usage(id, isApart ? { ...options, base: null } : options);
  }

  async readPieces(id: ImageId): Promise<readonly ImagePiece[]> {
    return this.#poolOf(id, `read image ${id}`).readPieces(id);
  }

  async read(id: ImageId, offset: number, length: number): Promise<Buffer> {
    return this.#poolOf(id, `read image ${id}`).read(id, offset, length);
  }

  async getImage(id: ImageId): Promise<BlockImage | null> {
    return this.#poolOf(id, `get image ${id}`).getImage(id);
  }

  async *listImages(): AsyncGenerator<BlockImage> {
    for (const pool of [this.#local, this.#replicated?.driver ?? null])
      if (pool !== null) for await (const image of pool.listImages()) if (!image.id.startsWith(COPY)) yield image;
  }

  async storedBytes(id: ImageId): Promise<number> {
    return (await this.#openPoolOf(id)?.storedBytes(id)) ?? 0;
  }

  spaceNow(directory: string, ids: readonly ImageId[]): DiskSpace {
    return this.#poolAt(directory).spaceNow(directory, ids);
  }

  /**
   * Frees an image of the replicated pool that a host which is gone has attached: the pool refuses that host from then on, frozen or late as it may be.
   * Success where nobody else has it, and of a pool that is this host's alone. `VOLUME_IN_USE`: one of `living` has it, the openings of the pool by hosts that
   * are not gone, and nothing has happened. Whatever else keeps it from being freed is `DISK_UNAVAILABLE`. After both, somebody may still write to it.
   */
  async takeOver(id: ImageId, living: readonly string[]): Promise<void> {
    const action = `take over image ${id}`;
    const pool = this.#poolOf(id, action);
    if (!isShared(pool)) return;
    try {
      const writer = await pool.writerOf(id);
      if (writer === null || writer === pool.clientInstance) return;
      if (living.includes(writer)) throw inUse(action);
      await step("storage.take-over", () => pool.fence(writer));
    } catch (error) {
      if (error instanceof CaissonError && error.code === "VOLUME_IN_USE") throw error;
      throw asUnavailable(`${action} from the run of its node that is over`, error);
    }
  }

  /** What tells the replicated pool, and this opening of it, from others; null: it is no pool that hosts share, or is not open. */
  get shared(): Pick<SharedStorageDriver, "identity" | "clientInstance"> | null {
    const driver = this.#replicated?.driver ?? null;
    return driver !== null && isShared(driver) ? driver : null;
  }

  /** Shuts another opening of the replicated pool out, as `SharedStorageDriver.fence` does. `DISK_UNAVAILABLE`: it may still write. */
  async fence(clientInstance: string): Promise<void> {
    const action = `shut ${clientInstance} out of the replicated pool`;
    const pool = this.#replicated?.require(action) ?? null;
    if (pool === null || !isShared(pool))
      throw new CaissonError("DISK_UNAVAILABLE", `Cannot ${action}: the pool of this node is none that nodes share`);
    try {
      await step("storage.take-over", () => pool.fence(clientInstance));
    } catch (error) {
      throw asUnavailable(action, error);
    }
  }

  /** The sums are over both pools. */
  async capacity(): Promise<PoolCapacity> {
    const [local, replicated = []] = await Promise.all([this.#local.capacity(), this.#replicated?.capacity()]);
    const sum = (pick: (part: Capacity) => number): number =>
      replicated.reduce((bytes, disk) => bytes + pick(disk), pick(local));
    return {
      totalBytes: sum(({ totalBytes }) => totalBytes),
      availableBytes: sum(({ availableBytes }) => availableBytes),
      freeBytes: sum(({ freeBytes }) => freeBytes),
      headroomBytes: sum(({ headroomBytes }) => headroomBytes),
      disks: [...local.disks, ...replicated],
    };
  }

  placeOf(id: ImageId): ImagePlace {
    if (this.#classOf(id) === "local") return this.#local.placeOf(id);
    return this.#replicated?.placeOf(id) ?? { directory: "replicated", problem: `Cannot use ${id}: ${NO_POOL}` };
  }

  async growPool(sizeBytes: number, directory?: string): Promise<void> {
    const driver = this.#replicated?.driver ?? null;
    const isReplicated =
      driver !== null && directory !== undefined && driver.placeOf("vol_any").directory === directory;
    await (isReplicated ? driver : this.#local).growPool(sizeBytes, directory);
  }

  async close(): Promise<void> {
    await this.#turns.idle();
    await settleAll([this.#local.close(), this.#replicated?.close() ?? Promise.resolve()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #poolOf(id: ImageId, action: string): StorageDriver {
    if (this.#classOf(id) === "local") return this.#local;
    if (this.#replicated !== null) return this.#replicated.require(action);
    throw new CaissonError("DISK_UNAVAILABLE", `Cannot ${action}: ${NO_POOL}`);
  }

  /** That of a disk; the local one, unless it is known to be the other's. */
  #poolAt(directory: string | undefined): StorageDriver {
    const replicated = this.#replicated?.driver ?? null;
    return replicated !== null && this.#replicated?.directory === directory ? replicated : this.#local;
  }

  /** Null: it cannot be used. */
  #openPoolOf(id: ImageId): StorageDriver | null {
    return this.#classOf(id) === "local" ? this.#local : (this.#replicated?.driver ?? null);
  }

  async #createCopy(
    id: ImageId,
    options: CreateImageOptions & { readonly parent: ImageId },
    target: StorageDriver,
  ): Promise<void> {
    const source = this.#poolOf(options.parent, `create image ${id}`);
    const copy = copyFor(id);
    try {
      if ((await target.getImage(id)) === null) {
        await step("storage.copy.contents", () =>
          target.createSealed(copy, (image) => copyContents(source, options.parent, image)),
        );
        await step("storage.copy.clone", () => target.createImage(id, { ...options, parent: copy }));
      }
      await step("storage.copy.remove", () => target.deleteImage(copy));
    } catch (error) {
      // Where this fails too, the copy goes with the deletion of the image, or when it is created again.
      await target.deleteImage(copy).catch(() => undefined);
      throw error;
    }
  }
}

function isShared(driver: StorageDriver): driver is SharedStorageDriver {
  return driver.capabilities.isShared;
}

function inUse(action: string): CaissonError {
  return new CaissonError(
    "VOLUME_IN_USE",
    `Cannot ${action}: another node, which is not lost, has not let go of it yet. Try again in a minute`,
  );
}

function asUnavailable(action: string, error: unknown): CaissonError {
  if (error instanceof CaissonError && error.code === "DISK_UNAVAILABLE") return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new CaissonError("DISK_UNAVAILABLE", `Cannot ${action}: ${reason}. It is tried again`, { cause: error });
}

/** Names of sealed copies begin so. They are nobody's images. */
const COPY = "cpy_";

function copyFor(id: ImageId): ImageId {
  return `${COPY}${id}`;
}

/** Volumes are made from what may lie elsewhere; snapshots lie with their volumes, and what is the node's own is local. */
function canBeCopied(id: ImageId): boolean {
  return id.startsWith("vol_");
}

async function copyContents(source: StorageDriver, id: ImageId, target: FillableImage): Promise<void> {
  await using image = await source.openSealed(id);
  await target.setSize(image.sizeBytes);
  const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for await (const { offset, length } of image.data()) {
    const end = Math.min(offset + length, image.sizeBytes);
    for (let at = offset; at < end; at += PIECE_BYTES) {
      const bytes = piece.subarray(0, Math.min(PIECE_BYTES, end - at));
      await image.read(at, bytes);
      await target.write(at, bytes);
    }
  }
}
