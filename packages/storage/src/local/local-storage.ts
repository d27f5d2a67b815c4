import { constants, statSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { access, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  changedParts,
  changeMode,
  countExtents,
  type FileLock,
  hasErrorCode,
  KeyedLock,
  type LoopStatus,
  openFile,
  readAvailableBytesNow,
  readMappedBytes,
  readSpace,
  step,
  syncFile,
  truncateFile,
} from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import type {
  AttachMode,
  BlockDevice,
  BlockImage,
  CreateImageOptions,
  DiskSpace,
  FillableImage,
  ImageId,
  ImagePart,
  ImagePiece,
  ImagePlace,
  ImageUsage,
  KnownUsage,
  OpenImage,
  PoolCapacity,
  SealOptions,
  SealReport,
  StorageCapabilities,
  StorageDriver,
  UsageOptions,
} from "../driver.ts";
import { refused, requireImageId, requireSame } from "../image-checks.ts";
import { lockPool } from "../pool-lock.ts";
import { CloneQueue } from "./copy/clone-queue.ts";
import { CloneSources } from "./copy/clone-sources.ts";
import { copyWhole } from "./copy/copy-whole.ts";
import { ImageCopier, SCATTERED_EXTENTS } from "./copy/image-copier.ts";
import { LastSealed } from "./copy/last-sealed.ts";
import { SpareClones } from "./copy/spare-clones.ts";
import { FillableFile, STRIDE_BYTES } from "./fill-image.ts";
import { ImageDirectory, type IncomingImage, type StoredImage } from "./image-directory.ts";
import { readPieces, writePieces } from "./image-pieces.ts";
import { findDevicesOn, settleLeftoverDevices } from "./leftover-devices.ts";
import { LoopDevices } from "./loop-devices.ts";
import { OpenImageFile } from "./open-image.ts";
import { PoolFile, type PoolFileOptions } from "./pool-file.ts";
import { hasReflink } from "./reflink.ts";
import { SyncedWriteWatch } from "./synced-write-watch.ts";

export interface LocalStorageOptions {
  /** Directory of the pool, on the host; made when missing. One process at a time may have it open. */
  readonly directory: string;
  /** Size of the pool file, where one is needed. Default: what the host's disk allows when it is made. */
  readonly poolSizeBytes?: number;
  /** Bytes of the host's disk that are never used. Default: 5 % of the disk, between 1 and 4 GiB. */
  readonly reserveBytes?: number;
  /** Bytes of the pool kept for ephemeral images and metadata. Default: 3 % of the pool, between 64 MiB and 1 GiB. */
  readonly headroomBytes?: number;
  /** How long to wait for an earlier server to be gone. Default: 10 seconds. */
  readonly takeoverTimeoutMs?: number;
  /** Whether a virtual machine's processors are kept awake while volumes are written with many syncs. Default: true. */
  readonly isAwakeForSyncs?: boolean;
  /** Told about failures of background work, which is tried again. Default: a process warning. */
  readonly onBackgroundError?: (error: unknown) => void;
}

interface Exclusive {
  readonly bytes: number;
  readonly measuredAtMs: number;
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** A new image needs room for its file system; with less than this available none is made. */
const MINIMUM_AVAILABLE_BYTES = 32 * MIB;
/** What an ephemeral image needs of the headroom to be of any use. */
const MINIMUM_FREE_BYTES = 8 * MIB;
/** How old the exclusive size of an image with a spare clone may be: to measure it, the spare is removed and made again, which writes much metadata. */
const EXCLUSIVE_AGE_MS = 24 * 3_600_000;
/** The same when a spare is about to be made: measuring is quick then. */
const EXCLUSIVE_AGE_BEFORE_SPARE_MS = 10 * 60_000;
export const LOCAL_CAPABILITIES: StorageCapabilities = {
  unitBytes: 4096,
  failsWhenFull: true,
  hasSpaceNow: true,
  isShared: false,
};
/** Deleting alone frees nothing at once, so the advice says what does. */
export const FULL_ADVICE =
  'Purge what is deleted ("caisson purge"), delete volumes or snapshots with "--now", delete files inside volumes, or enlarge the pool; "caisson df" shows what holds the space';

/**
 * Images as sparse files in a directory with reflink, or in a pool file where the directory has none.
 *
 * The order of steps is the same everywhere: make the contents under a temporary name, put them on stable storage, rename, put the
 * directory on stable storage. A crash before the rename leaves a file in `incoming`, which the next start removes; a crash after it leaves
 * the whole image, which its owner has not been told about.
 */
export class LocalStorage implements StorageDriver {
  readonly name = "local";
  readonly capabilities = LOCAL_CAPABILITIES;
  readonly #directory: string;
  readonly #reserveBytes: number;
  readonly #headroomBytes: number;
  readonly #images: ImageDirectory;
  readonly #pool: PoolFile | null;
  readonly #lock: FileLock;
  readonly #turns = new KeyedLock();
  readonly #watch: SyncedWriteWatch | null;
  readonly #copier: ImageCopier;
  readonly #spares: SpareClones;
  readonly #lastSealed: LastSealed;
  readonly #clones = new CloneQueue();
  readonly #sources = new CloneSources();
  /** What deleting a sealed image would free, without its spare. */
  readonly #exclusive = new Map<ImageId, Exclusive>();
  readonly #loopDevices: LoopDevices;
  /** Images that somebody reads. */
  readonly #open = new Set<OpenImageFile>();
  /** How many images are being filled at the moment. */
  #fillerCount = 0;
  #isClosed = false;

  private constructor(
    options: { readonly directory: string; readonly reserveBytes: number; readonly headroomBytes: number },
    parts: {
      readonly images: ImageDirectory;
      readonly pool: PoolFile | null;
      readonly lock: FileLock;
      readonly watch: SyncedWriteWatch | null;
      readonly copier: ImageCopier;
      readonly lastSealed: LastSealed;
      readonly onError: (error: unknown) => void;
    },
  ) {
    this.#directory = options.directory;
    this.#reserveBytes = options.reserveBytes;
    this.#headroomBytes = options.headroomBytes;
    this.#images = parts.images;
    this.#pool = parts.pool;
    this.#lock = parts.lock;
    this.#watch = parts.watch;
    this.#copier = parts.copier;
    this.#lastSealed = parts.lastSealed;
    this.#spares = new SpareClones({
      images: parts.images,
      copier: parts.copier,
      hasRoom: async () => (await this.capacity()).availableBytes >= MINIMUM_AVAILABLE_BYTES,
      measure: (id, file, path) => this.#measureBeforeSpare(id, file, path),
      onError: parts.onError,
    });
    this.#loopDevices = new LoopDevices(parts.watch);
  }

  static async open(options: LocalStorageOptions): Promise<LocalStorage> {
    const { directory, takeoverTimeoutMs: timeoutMs = 10_000 } = options;
    const onBackgroundError =
      options.onBackgroundError ?? ((error) => process.emitWarning(`${directory}: ${String(error)}`));
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const lock = await lockPool(directory, timeoutMs);
    try {
      const reserveBytes = options.reserveBytes ?? (await defaultReserve(directory));
      const settle = (find: () => Promise<readonly LoopStatus[]>): Promise<void> =>
        settleLeftoverDevices(find, {
          what: `the pool ${directory}`,
          temporaryDirectory: join(directory, "recovery"),
          timeoutMs,
        });
      const pool = await openPoolFile({ ...options, onBackgroundError }, reserveBytes, settle);
      try {
        const images = new ImageDirectory(pool?.mountPath ?? directory);
        await images.prepare();
        if (pool === null) await settle(() => findDevicesOn(images.stateDirectories));
        await images.clean();
        const watch =
          options.isAwakeForSyncs === false ? null : await SyncedWriteWatch.open({ onError: onBackgroundError });
        const headroomBytes = options.headroomBytes ?? (await defaultHeadroom(images.path));
        const copier = await ImageCopier.open(directory, { onError: onBackgroundError });
        const lastSealed = await LastSealed.open(images);
        const parts = { images, pool, lock, watch, copier, lastSealed, onError: onBackgroundError };
        const storage = new LocalStorage({ directory, reserveBytes, headroomBytes }, parts);
        await storage.#spares.open();
        return storage;
      } catch (error) {
        await pool?.close();
        throw error;
      }
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** With `contents` the image is a copy of that file, of another pool, which nobody writes to meanwhile. It shares nothing with it. */
  async createImage(id: ImageId, options: CreateImageOptions & { readonly contents?: string }): Promise<void> {
    requireImageId(id);
    const { sizeBytes, parent, contents, pieces = [], isEphemeral = false } = options;
    const action = `create image ${id}`;
    await this.#turn([id], action, async () => {
      const existing = await this.#images.find(id);
      if (existing !== null) {
        requireSame(action, existing, isEphemeral ? "scratch" : "images", sizeBytes);
        await this.#images.makeDurable(existing);
        return;
      }
      await this.#requireSpace(action, isEphemeral);
      await using incoming =
        parent === undefined
          ? await this.#images.createIncoming(id)
          : await this.#sources.use(parent, () => this.#cloneParent(id, parent, { sizeBytes, isEphemeral, action }));
      const { file, path } = incoming;
      // Only at the end, so that making it does not delay the caller.
      using _wanted = {
        [Symbol.dispose]: () => {
          if (!isEphemeral && parent !== undefined) this.#spares.want(parent);
        },
      };
      if (contents !== undefined) {
        await step("storage.create.copy", () => copyWhole(contents, path));
      }
      await truncateFile(file, sizeBytes, path);
      await step("storage.create.pieces", () => writePieces(file, pieces));
      if (isEphemeral) {
        await incoming.commit(this.#images.pathOf("scratch", id));
        return;
      }
      await step("storage.create.sync", () => syncFile(file, path));
      await step("storage.create.commit", () => incoming.commit(this.#images.pathOf("images", id)));
      await step("storage.create.sync-directory", () => this.#images.sync("images"));
    });
  }

  /** The file of a sealed image, to make a larger or equal one of another pool from. Throws what `createImage` with this parent does. */
  async contentsOf(parent: ImageId, sizeBytes: number, action: string): Promise<string> {
    await using _parent = await this.#openParent(action, parent, sizeBytes);
    return this.#images.pathOf("sealed", parent);
  }

  async sealImage(source: ImageId, id: ImageId, options: SealOptions = {}): Promise<SealReport> {
    requireImageId(id);
    const { live = null, onSealed } = options;
    const action = `seal image ${source} as ${id}`;
    return this.#turn([source, id], action, async () => {
      const existing = await this.#images.find(id);
      if (existing !== null) {
        requireSame(action, existing, "sealed", existing.sizeBytes);
        await onSealed?.();
        await this.#images.makeDurable(existing);
        return { frozenMs: 0 };
      }
      const { path: sourcePath, sizeBytes } = await this.#requireImage(action, source);
      // What two images share needs space again when one of them is written to.
      await this.#requireSpace(action, false);
      await using sourceFile = await openFile(sourcePath, "r");
      const seed = await this.#takeSeed(source, id, sourceFile);
      await using incoming = seed ?? (await this.#images.createIncoming(id));
      const { file, path } = incoming;
      const files = { action, source: sourceFile, target: file, path, sizeBytes, isSeeded: seed !== null };
      const seedId = seed === null ? null : this.#lastSealed.get(source);
      // Only now, so that making it does not disturb the freeze; the new image's own comes before.
      using _wanted = {
        [Symbol.dispose]: () => {
          if (seedId !== null) this.#spares.want(seedId);
          if (this.#lastSealed.get(source) === id) this.#spares.want(id);
        },
      };
      await using copied = await step("storage.seal.clone", () =>
        live === null
          ? this.#copier.copyAtRest(files)
          : this.#copier.copyLive(files, {
              fileSystem: live,
              device: this.#requireWriter(action, source),
              source,
              sealed: id,
              seed: seedId,
            }),
      );
      await onSealed?.();
      await changeMode(path, 0o400);
      await step("storage.seal.sync", () => syncFile(file, path));
      await this.#lastSealed.set(source, id);
      await step("storage.seal.commit", () => incoming.commit(this.#images.pathOf("sealed", id)));
      await step("storage.seal.sync-directory", () => this.#images.sync("sealed"));
      // At this instant it shares every block with its source.
      this.#exclusive.set(id, { bytes: 0, measuredAtMs: Date.now() });
      return { frozenMs: copied.frozenMs };
    });
  }

  async createSealed(id: ImageId, fill: (image: FillableImage) => Promise<void>): Promise<void> {
    requireImageId(id);
    const action = `create image ${id}`;
    await this.#turn([id], action, async () => {
      const existing = await this.#images.find(id);
      if (existing !== null) {
        requireSame(action, existing, "sealed", existing.sizeBytes);
        await this.#images.makeDurable(existing);
        return;
      }
      await using incoming = await this.#images.createIncoming(id);
      const { file, path } = incoming;
      this.#fillerCount += 1;
      try {
        const requireSpace = (): Promise<void> => this.#requireSpace(action, false, this.#fillerCount * STRIDE_BYTES);
        await step("storage.fill", () => fill(new FillableFile(incoming, requireSpace)));
      } finally {
        this.#fillerCount -= 1;
      }
      await changeMode(path, 0o400);
      await step("storage.seal.sync", () => syncFile(file, path));
      await step("storage.seal.commit", () => incoming.commit(this.#images.pathOf("sealed", id)));
      await step("storage.seal.sync-directory", () => this.#images.sync("sealed"));
    });
  }

  async openSealed(id: ImageId): Promise<OpenImage> {
    const action = `open image ${id}`;
    this.#requireOpen(action);
    const image = await this.#requireImage(action, id);
    if (image.state !== "sealed") throw refused(action, "it is not sealed. Seal it first");
    const open = await OpenImageFile.open(image, (closed) => this.#open.delete(closed));
    this.#open.add(open);
    return open;
  }

  async compareSealed(id: ImageId, base: ImageId): Promise<readonly ImagePart[] | null> {
    const action = `compare image ${id} with ${base}`;
    this.#requireOpen(action);
    const [image, other] = [await this.#requireImage(action, id), await this.#images.find(base)];
    if (image.state !== "sealed" || other?.state !== "sealed") return null;
    try {
      await using file = await openFile(image.path, "r");
      await using baseFile = await openFile(other.path, "r");
      const { path, sizeBytes } = image;
      return await changedParts({ file, sizeBytes }, { file: baseFile, sizeBytes: other.sizeBytes }, path);
    } catch (error) {
      // One of them was deleted since, the file system has no such maps, or that of the base is damaged: whether the image is, its reader will see.
      if (hasErrorCode(error, "ENOENT", "ENOTTY", "ENOTSUP", "EOPNOTSUPP", "EIO", "EUCLEAN")) return null;
      throw error;
    }
  }

  async growImage(id: ImageId, sizeBytes: number): Promise<void> {
    const action = `grow image ${id} to ${formatSize(sizeBytes)}`;
    await this.#turn([id], action, async () => {
      const image = await this.#requireImage(action, id);
      if (image.state === "sealed") throw refused(action, "it is sealed. Create an image from it and grow that");
      this.#requireDetached(action, id);
      if (sizeBytes < image.sizeBytes) {
        const message = `Cannot ${action}: it has ${image.sizeBytes} bytes already and images never shrink`;
        throw new CaissonError("INVALID_CAPACITY", message);
      }
      await using file = await openFile(image.path, "r+");
      await step("storage.grow.truncate", () => truncateFile(file, sizeBytes, image.path));
      // Also when the size was right: an earlier call may have died before it was on stable storage.
      if (image.state === "images") await step("storage.grow.sync", () => syncFile(file, image.path));
    });
  }

  async deleteImage(id: ImageId): Promise<void> {
    const action = `delete image ${id}`;
    await this.#turn([id], action, async () => {
      this.#requireDetached(action, id);
      const image = await this.#images.find(id);
      await step("storage.spare.forget", () => this.#spares.forget(id));
      await step("storage.delete", () => this.#images.remove(id, image, () => this.#sources.unused(id)));
      // One that was begun in between would keep the blocks.
      await this.#spares.forget(id);
      await this.#lastSealed.forget(id);
      this.#exclusive.delete(id);
    });
  }

  async attach(id: ImageId, mode: AttachMode): Promise<BlockDevice> {
    const action = `attach image ${id}`;
    return this.#turn([id], action, async () => {
      const image = await this.#requireImage(action, id);
      if (image.state === "sealed" && mode === "rw") {
        throw refused(
          action,
          "it is sealed and can only be attached read-only. Create an image from it and attach that",
        );
      }
      return this.#loopDevices.attach(id, image, mode);
    });
  }

  async detach(device: BlockDevice): Promise<void> {
    // Closing has detached everything.
    if (this.#isClosed) return;
    await this.#turn([device.imageId], `detach ${device.path}`, async () => {
      if (device.mode === "rw") this.#copier.endTrace(device.imageId);
      await this.#loopDevices.detach(device);
    });
  }

  async usage(id: ImageId, { base = null, maxExtents, known = null }: UsageOptions = {}): Promise<ImageUsage | null> {
    const action = `measure image ${id}`;
    this.#requireOpen(action);
    const image = await this.#requireImage(action, id);
    const baseImage = base === null ? null : await this.#images.find(base);
    await using file = await openFile(image.path, "r");
    if (maxExtents !== undefined && (await countExtents(file, image.path)) > maxExtents) return null;
    await using baseFile = baseImage === null ? null : await openFile(baseImage.path, "r");
    const hasSpare = this.#spares.has(id);
    const exclusive = hasSpare ? await this.#knownExclusive(id, known) : null;
    const mustForget = hasSpare && exclusive === null;
    // A caller that waits does not want to lose the spare for it.
    if (mustForget && maxExtents !== undefined) return null;
    const measuredAtMs = Date.now();
    // Every block of it is shared with its spare.
    if (mustForget) await this.#spares.forget(id);
    const options = { base: baseFile, ...(maxExtents === undefined ? {} : { maxExtents }) };
    const mapped = await readMappedBytes(file, image.path, options);
    if (mapped !== null && image.state === "sealed" && exclusive === null)
      this.#exclusive.set(id, { bytes: mapped.exclusiveBytes, measuredAtMs });
    if (mustForget) this.#spares.want(id);
    if (mapped === null) return null;
    const exclusiveBytes = exclusive === null ? mapped.exclusiveBytes : Math.min(exclusive.bytes, mapped.mappedBytes);
    return { allocatedBytes: mapped.ownBytes, flattenedBytes: mapped.mappedBytes, exclusiveBytes };
  }

  async readPieces(id: ImageId): Promise<readonly ImagePiece[]> {
    const action = `read image ${id}`;
    return this.#turn([id], action, async () => {
      this.#requireDetached(action, id);
      const { path } = await this.#requireImage(action, id);
      await using file = await openFile(path, "r");
      return await readPieces(file, path);
    });
  }

  async read(id: ImageId, offset: number, length: number): Promise<Buffer> {
    const image = await this.#requireImage(`read image ${id}`, id);
    await using file = await openFile(image.path, "r");
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  }

  async getImage(id: ImageId): Promise<BlockImage | null> {
    this.#requireOpen(`get image ${id}`);
    const image = await this.#images.find(id);
    return image === null ? null : { id, sizeBytes: image.sizeBytes, isSealed: image.state === "sealed" };
  }

  async *listImages(): AsyncGenerator<BlockImage> {
    this.#requireOpen("list images");
    yield* this.#images.list();
  }

  async storedBytes(id: ImageId): Promise<number> {
    const image = await this.#images.find(id);
    if (image === null) return 0;
    return (await stat(image.path)).blocks * 512;
  }

  spaceNow(_directory: string, ids: readonly ImageId[]): DiskSpace {
    const storedBytes = new Map<ImageId, number>();
    for (const id of ids) {
      const path = this.#loopDevices.pathOf(id);
      const blocks = path === null ? undefined : statSync(path, { throwIfNoEntry: false })?.blocks;
      if (blocks !== undefined) storedBytes.set(id, blocks * 512);
    }
    const freeBytes =
      this.#pool?.freeBytesNow() ?? Math.max(0, readAvailableBytesNow(this.#images.path) - this.#reserveBytes);
    return { freeBytes, headroomBytes: this.#headroomBytes, storedBytes };
  }

  async capacity(): Promise<PoolCapacity> {
    this.#requireOpen("read the capacity of the pool");
    const { totalBytes, freeBytes } = await this.#readSpace();
    const headroomBytes = this.#headroomBytes;
    const own = { totalBytes, freeBytes, headroomBytes, availableBytes: Math.max(0, freeBytes - headroomBytes) };
    return { ...own, disks: [{ ...own, ...this.placeOf() }] };
  }

  placeOf(): ImagePlace {
    return { directory: this.#directory, problem: null };
  }

  async growPool(sizeBytes: number): Promise<void> {
    const action = `grow the pool ${this.#directory} to ${formatSize(sizeBytes)}`;
    this.#requireOpen(action);
    if (this.#pool !== null) return this.#pool.grow(sizeBytes);
    throw new CaissonError(
      "INVALID_CAPACITY",
      `Cannot ${action}: it has no pool file and is as large as the file system that it lies on. Enlarge that`,
    );
  }

  /** Removes the spare clones, which are made again when there is room and they are wanted. */
  async evictSpares(): Promise<void> {
    this.#requireOpen("evict spare clones");
    await this.#spares.evict();
  }

  /** Resolves when every spare clone that is wanted is made. */
  async sparesMade(): Promise<void> {
    await this.#spares.idle();
  }

  /** Waits for calls under way, then detaches every device. A device that is still mounted is an error, and the pool stays open. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await this.#turns.idle();
      // Who reads on gets an error.
      for (const image of this.#open) await image[Symbol.asyncDispose]();
      await this.#spares.close();
      await this.#loopDevices.detachAll();
      await this.#watch?.close();
      await this.#copier[Symbol.asyncDispose]();
      await this.#pool?.close();
      await this.#lock[Symbol.asyncDispose]();
    } catch (error) {
      this.#isClosed = false;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Runs a task when no other one for these images does, and says in the product's words what the file system below refused. */
  async #turn<T>(ids: readonly ImageId[], action: string, task: () => Promise<T>): Promise<T> {
    this.#requireOpen(action);
    try {
      return await this.#turns.run([...new Set(ids)], task);
    } catch (error) {
      if (!hasErrorCode(error, "ENOSPC", "EDQUOT")) throw error;
      throw new CaissonError("STORAGE_FULL", `Cannot ${action}: the pool ${this.#directory} is full. ${FULL_ADVICE}`, {
        cause: error,
      });
    }
  }

  async #openParent(
    action: string,
    parent: ImageId,
    sizeBytes: number,
  ): Promise<AsyncDisposable & { readonly file: FileHandle; readonly sizeBytes: number }> {
    const image = await this.#requireImage(action, parent);
    if (image.state !== "sealed") throw refused(action, `its parent ${parent} is not sealed. Seal it first`);
    if (sizeBytes < image.sizeBytes) {
      const message =
        `Cannot ${action} with ${sizeBytes} bytes: its parent ${parent} has ${image.sizeBytes}. ` +
        `Choose at least ${image.sizeBytes}`;
      throw new CaissonError("INVALID_CAPACITY", message);
    }
    const file = await openFile(image.path, "r");
    return { file, sizeBytes: image.sizeBytes, [Symbol.asyncDispose]: () => file.close() };
  }

  /** A clone of a sealed image, as the beginning of image `id`: its spare or, where there is none, a copy. */
  async #cloneParent(
    id: ImageId,
    parent: ImageId,
    { sizeBytes, isEphemeral, action }: { sizeBytes: number; isEphemeral: boolean; action: string },
  ): Promise<IncomingImage> {
    await using source = await this.#openParent(action, parent, sizeBytes);
    const extents = await countExtents(source.file, parent);
    const clone = async (): Promise<IncomingImage> => {
      const spare = isEphemeral ? null : await this.#spares.take(parent, id);
      if (spare !== null) return spare;
      const incoming = await this.#images.createIncoming(id);
      try {
        const { file: target, path } = incoming;
        const files = { action, source: source.file, target, path, sizeBytes: source.sizeBytes, isSeeded: false };
        const startedMs = performance.now();
        await using _copied = await step("storage.create.clone", () => this.#copier.copyAtRest(files));
        if (extents > SCATTERED_EXTENTS) this.#clones.learn(extents, performance.now() - startedMs);
        return incoming;
      } catch (error) {
        await incoming[Symbol.asyncDispose]();
        throw error;
      }
    };
    return extents > SCATTERED_EXTENTS ? await this.#clones.run(parent, extents, action, clone) : await clone();
  }

  async #requireImage(action: string, id: ImageId): Promise<StoredImage> {
    const image = await this.#images.find(id);
    if (image === null) throw refused(action, `there is no image ${id}`);
    return image;
  }

  /** The spare of the last image that was sealed of a fragmented source: only what differs is left to copy. */
  async #takeSeed(source: ImageId, id: ImageId, sourceFile: FileHandle): Promise<IncomingImage | null> {
    const last = this.#lastSealed.get(source);
    if (last === null || (await countExtents(sourceFile, source)) <= SCATTERED_EXTENTS) return null;
    return this.#spares.take(last, id);
  }

  /** What deleting an image with a spare would free, if that was measured not too long ago. */
  async #knownExclusive(id: ImageId, given: KnownUsage | null): Promise<Exclusive | null> {
    let exclusive = this.#exclusive.get(id) ?? null;
    if (exclusive === null && given !== null) {
      // A figure from before the last measurement is not that measurement's.
      const measuredAtMs = await this.#images.spareMeasuredAtMs(id);
      if (measuredAtMs !== null && given.measuredAtMs >= measuredAtMs)
        exclusive = { bytes: given.exclusiveBytes, measuredAtMs };
    }
    if (exclusive === null || Date.now() - exclusive.measuredAtMs >= EXCLUSIVE_AGE_MS) return null;
    this.#exclusive.set(id, exclusive);
    return exclusive;
  }

  async #measureBeforeSpare(id: ImageId, file: FileHandle, path: string): Promise<number> {
    const known = this.#exclusive.get(id);
    const measuredAtMs = Date.now();
    if (known !== undefined && measuredAtMs - known.measuredAtMs < EXCLUSIVE_AGE_BEFORE_SPARE_MS)
      return known.measuredAtMs;
    const mapped = await readMappedBytes(file, path);
    // Without a limit it is always measured.
    if (mapped === null) return 0;
    this.#exclusive.set(id, { bytes: mapped.exclusiveBytes, measuredAtMs });
    return measuredAtMs;
  }

  #requireWriter(action: string, id: ImageId): string {
    const device = this.#loopDevices.writerPath(id);
    if (device === null) throw refused(action, `${id} is not attached read-write, so no file system on it is live`);
    return device;
  }

  #requireDetached(action: string, id: ImageId): void {
    if (!this.#loopDevices.isAttached(id)) return;
    throw new CaissonError("VOLUME_IN_USE", `Cannot ${action}: it is attached. Detach it first`);
  }

  #requireOpen(action: string): void {
    if (this.#isClosed)
      throw new CaissonError("SHUTTING_DOWN", `Cannot ${action}: the pool ${this.#directory} is closed`);
  }

  /** `claimedBytes`: what is about to be written, by this call and others. */
  async #requireSpace(action: string, isEphemeral: boolean, claimedBytes = 0): Promise<void> {
    const { freeBytes } = await this.#readSpace();
    const leftBytes = (isEphemeral ? freeBytes : freeBytes - this.#headroomBytes) - claimedBytes;
    if (leftBytes >= (isEphemeral ? MINIMUM_FREE_BYTES : MINIMUM_AVAILABLE_BYTES)) return;
    throw new CaissonError(
      "STORAGE_FULL",
      `Cannot ${action}: the pool ${this.#directory} has ${formatSize(Math.max(0, leftBytes))} left` +
        `${isEphemeral ? "" : `, beside ${formatSize(this.#headroomBytes)} of headroom`}. ${FULL_ADVICE}`,
    );
  }

  /** Throws when the disk fails, also where the kernel still knows its free space. */
  async #readSpace(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    // What was shut down after an error answers with that; what became read-only refuses.
    await stat(this.#images.path);
    await access(this.#images.path, constants.W_OK);
    if (this.#pool !== null) return this.#pool.readSpace();
    const { totalBytes, availableBytes } = await readSpace(this.#directory);
    return { totalBytes, freeBytes: Math.max(0, availableBytes - this.#reserveBytes) };
  }
}

/** The pool file, unless the directory has reflink itself. Once made, the file is used wherever the directory moves. */
async function openPoolFile(
  { directory, poolSizeBytes, onBackgroundError }: LocalStorageOptions & Pick<PoolFileOptions, "onBackgroundError">,
  reserveBytes: number,
  settle: (find: () => Promise<readonly LoopStatus[]>) => Promise<void>,
): Promise<PoolFile | null> {
  const path = join(directory, "pool.xfs");
  if (!(await isFile(path)) && (await hasReflink(directory))) {
    if (poolSizeBytes === undefined) return null;
    throw new CaissonError(
      "INVALID_CAPACITY",
      `Cannot limit the pool ${directory} to ${formatSize(poolSizeBytes)}: it lies on a file system with reflink and needs no pool ` +
        "file. Leave the size away, or choose a directory elsewhere",
    );
  }
  return PoolFile.open({
    path,
    mountPath: join(directory, "mount"),
    reserveBytes,
    settle,
    onBackgroundError,
    ...(poolSizeBytes === undefined ? {} : { sizeBytes: poolSizeBytes }),
  });
}

async function defaultReserve(directory: string): Promise<number> {
  const { totalBytes } = await readSpace(directory);
  return Math.min(4 * GIB, Math.max(GIB, Math.floor(totalBytes / 20)));
}

async function defaultHeadroom(directory: string): Promise<number> {
  const { totalBytes } = await readSpace(directory);
  return Math.min(GIB, Math.max(64 * MIB, Math.floor(totalBytes * 0.03)));
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return false;
    throw error;
  }
}
