import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type FileLock, KeyedLock, step } from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import type {
  AttachMode,
  BlockDevice,
  BlockImage,
  CreateImageOptions,
  DiskSpace,
  FillableImage,
  ImageId,
  ImagePiece,
  ImagePlace,
  ImageUsage,
  OpenImage,
  PoolCapacity,
  SealOptions,
  SealReport,
  SharedStorageDriver,
  StorageCapabilities,
  UsageOptions,
} from "../driver.ts";
import { FrozenFileSystem } from "../frozen-file-system.ts";
import { refused, requireImageId, requireSame } from "../image-checks.ts";
import { nonZeroPieces } from "../local/image-pieces.ts";
import { lockPool } from "../pool-lock.ts";
import { CephConnection } from "./ceph-connection.ts";
import { asCephProblem } from "./ceph-problem.ts";
import { CephSpace, type Filler } from "./ceph-space.ts";
import { type ExtentSet, extentSet } from "./extent-set.ts";
import { fence, settleOwn } from "./fence.ts";
import { FillableExport } from "./fill-export.ts";
import { ImageMeter } from "./image-usage.ts";
import { OpenRbdImage } from "./open-rbd-image.ts";
import { type CephPool, type DiffExtent, poolName } from "./rbd-client.ts";
import { RbdDevices } from "./rbd-devices.ts";
import { RbdExport } from "./rbd-export.ts";
import { Reaper } from "./reaper.ts";
import { type Found, type ImageRow, isThere, Register, type WriterRow } from "./register.ts";
import { Writers } from "./writers.ts";

export interface CephStorageOptions extends CephPool {
  /** On the host, for what this host must know of the pool; made when missing. One process at a time may have it open. */
  readonly directory: string;
  /** Bytes of the pool that are never used. Default: 0. */
  readonly reserveBytes?: number;
  /** Bytes of the pool kept for ephemeral images and metadata. Default: 3 % of the pool, between 64 MiB and 1 GiB. */
  readonly headroomBytes?: number;
  /** How long the cluster may be silent before a call fails. Default: 30 seconds. */
  readonly answerTimeoutMs?: number;
  /** The same while the pool is opened, and for connecting again. Default: 8 seconds. */
  readonly connectTimeoutMs?: number;
  /** How long to wait for an earlier server to be gone. Default: 10 seconds. */
  readonly takeoverTimeoutMs?: number;
  /** Told about what could not be cleaned up, and is when the pool is opened again. Default: a process warning. */
  readonly onBackgroundError?: (error: unknown) => void;
}

export const CEPH_CAPABILITIES: StorageCapabilities = {
  unitBytes: 2 ** 20,
  failsWhenFull: false,
  hasSpaceNow: false,
  isShared: true,
};

const ANSWER_TIMEOUT_MS = 30_000;
const READ_BYTES = 2 ** 20;
const BLOCK_BYTES = 4096;

interface Parts {
  readonly options: CephStorageOptions;
  readonly lock: FileLock;
  readonly connection: CephConnection;
  readonly register: Register;
}

/**
 * Images in a pool of a Ceph cluster, which several hosts use at once.
 *
 * What there is stands in the register (`register.ts`): a row says whether an image is there, and which block image of the cluster it is, or which snapshot of
 * one. So sealing makes a snapshot, and a clone shares with the snapshot that it came from; a block image stays, in the cluster's trash where nobody else
 * needs it, until its last snapshot and the last clone of that are gone (`reaper.ts`).
 *
 * The order of steps is the same everywhere: write the intent down, make or remove the contents, replace the row. A crash in between leaves an intent with this
 * host's name, which the next opening on this host undoes or finishes, as a fence by another host does.
 */
export class CephStorage implements SharedStorageDriver {
  readonly name = "ceph";
  readonly capabilities = CEPH_CAPABILITIES;
  readonly #options: CephStorageOptions;
  readonly #lock: FileLock;
  readonly #connection: CephConnection;
  readonly #register: Register;
  readonly #reaper: Reaper;
  readonly #writers: Writers;
  readonly #space: CephSpace;
  readonly #devices: RbdDevices;
  readonly #turns = new KeyedLock();
  readonly #open = new Set<OpenRbdImage>();
  readonly #timeoutMs: number;
  #isClosed = false;

  private constructor({ options, lock, connection, register }: Parts) {
    this.#options = options;
    this.#lock = lock;
    this.#connection = connection;
    this.#register = register;
    this.#timeoutMs = options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
    this.#reaper = new Reaper(connection, register);
    this.#writers = new Writers(connection, register);
    this.#space = new CephSpace(connection, options);
    this.#devices = new RbdDevices({ timeoutMs: this.#timeoutMs });
  }

  /** `DISK_UNAVAILABLE`, with what to do, where the pool cannot be used: within about ten seconds. */
  static async open(options: CephStorageOptions): Promise<CephStorage> {
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    const lock = await lockPool(options.directory, options.takeoverTimeoutMs ?? 10_000);
    try {
      const answerTimeoutMs = options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
      const connection = await CephConnection.open({ ...options, answerTimeoutMs });
      try {
        const register = new Register(() => connection.client());
        const storage = new CephStorage({ options, lock, connection, register });
        await storage.#run(`open the pool ${storage.#directory}`, async () => {
          await settleOwn(connection, register, storage.#reaper);
          await storage.#space.read();
        });
        return storage;
      } catch (error) {
        await connection.close();
        throw error;
      }
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
  }

  get identity(): string {
    return `${this.#connection.fsid}/${poolName(this.#options)}`;
  }

  get clientInstance(): string {
    return this.#connection.instance;
  }

  get #directory(): string {
    return `ceph:${poolName(this.#options)}`;
  }

  async writerOf(id: ImageId): Promise<string | null> {
    const action = `look who writes to image ${id}`;
    return this.#turn([], action, () => this.#writers.of(id));
  }

  async fence(clientInstance: string): Promise<void> {
    const action = `fence ${clientInstance}`;
    if (clientInstance === this.clientInstance) throw refused(action, "it is this server's own");
    await this.#turn([`fence ${clientInstance}`], action, () =>
      fence(clientInstance, this.#connection, this.#register, this.#reaper),
    );
  }

  async createImage(id: ImageId, options: CreateImageOptions): Promise<void> {
    const { sizeBytes, parent, pieces = [], isEphemeral = false } = options;
    const action = `create image ${id}`;
    requireImageId(id);
    await this.#turn([id], action, async () => {
      const existing = await this.#findSettled(id);
      if (existing !== null)
        return requireSame(action, kindOf(existing.row), isEphemeral ? "ephemeral" : "ready", sizeBytes);
      await this.#space.require(action, { isEphemeral });
      const source = parent === undefined ? null : await this.#requireParent(action, parent, sizeBytes);
      const image = newName(id);
      await this.#make(id, { ...this.#blankRow(image), sizeBytes, isEphemeral }, async (making) => {
        await step("storage.create.image", () =>
          parent === undefined || source === null
            ? this.#call((client) => client.create(image, sizeBytes))
            : this.#reaper.using(source.image, async () => {
                const { image: from, snapshot } = await this.#requireParent(action, parent, sizeBytes);
                await this.#call((client) => client.clone(from, snapshot ?? "", image, sizeBytes));
              }),
        );
        if (pieces.length > 0)
          await step("storage.create.pieces", () => this.#call((client) => client.write(image, pieces)));
        await step("storage.create.commit", () =>
          this.#register.replace("image", id, making, { ...making.row, state: "ready" }),
        );
      });
    });
  }

  async sealImage(source: ImageId, id: ImageId, options: SealOptions = {}): Promise<SealReport> {
    requireImageId(id);
    const { live = null, onSealed } = options;
    const action = `seal image ${source} as ${id}`;
    return this.#turn([source, id], action, async () => {
      const existing = await this.#findSettled(id);
      if (existing !== null) {
        requireSame(action, kindOf(existing.row), "sealed", existing.row.sizeBytes);
        await onSealed?.();
        return { frozenMs: 0 };
      }
      const { row } = await this.#requireImage(action, source);
      // What two images share needs space again when one of them is written to.
      await this.#space.require(action, {});
      const device = this.#devices.writer(source);
      if (live !== null && device === null)
        throw refused(action, `${source} is not attached read-write, so no file system on it is live`);
      const snapshot = row.snapshot ?? newName(id);
      const target = { ...this.#blankRow(row.image), snapshot, sizeBytes: row.sizeBytes };
      return this.#make(id, target, async (making) => {
        const frozenMs = await step("storage.seal.snapshot", async () => {
          // Of a sealed image nothing is to be made.
          if (row.snapshot !== null) return 0;
          const take = (): Promise<void> =>
            this.#reaper.using(row.image, () => this.#call((client) => client.snapshot(row.image, snapshot)));
          if (live === null) {
            await device?.flush();
            await take();
            return 0;
          }
          await using frozen = await FrozenFileSystem.freeze(live.mountPath, { deadlineMs: live.freezeDeadlineMs });
          await take();
          frozen.thaw();
          return frozen.stalledMs;
        });
        await onSealed?.();
        await step("storage.seal.commit", () =>
          this.#register.replace("image", id, making, { ...making.row, state: "sealed" }),
        );
        return { frozenMs };
      });
    });
  }

  async createSealed(id: ImageId, fill: (image: FillableImage) => Promise<void>): Promise<void> {
    requireImageId(id);
    const action = `create image ${id}`;
    await this.#turn([id], action, async () => {
      const existing = await this.#findSettled(id);
      if (existing !== null) return requireSame(action, kindOf(existing.row), "sealed", existing.row.sizeBytes);
      const image = newName(id);
      const filler = this.#space.filler(action);
      const made = this.#make(id, { ...this.#blankRow(image), snapshot: newName(id) }, async (making) => {
        await step("storage.fill.image", () => this.#call((client) => client.create(image, 0)));
        const sizeBytes = await this.#fill(image, filler, fill);
        await step("storage.seal.snapshot", () =>
          this.#call((client) => client.snapshot(image, making.row.snapshot ?? "")),
        );
        await step("storage.seal.commit", () =>
          this.#register.replace("image", id, making, { ...making.row, sizeBytes, state: "sealed" }),
        );
      });
      await made.catch((error: unknown) => {
        filler.forget();
        throw error;
      });
    });
  }

  async openSealed(id: ImageId): Promise<OpenImage> {
    const action = `open image ${id}`;
    return this.#run(action, async () => {
      const { row } = await this.#requireImage(action, id);
      if (row.state !== "sealed") throw refused(action, "it is not sealed. Seal it first");
      const open = new OpenRbdImage(id, row, {
        client: () => this.#connection.client(),
        register: this.#register,
        run: (task) => this.#run(`read image ${id}`, task),
        onClosed: (closed) => this.#open.delete(closed),
      });
      this.#open.add(open);
      return open;
    });
  }

  /** Never tells: what a cluster lists as changed since a snapshot may lack what was discarded of a clone's parent. */
  async compareSealed(): Promise<null> {
    return null;
  }

  async growImage(id: ImageId, sizeBytes: number): Promise<void> {
    const action = `grow image ${id} to ${formatSize(sizeBytes)}`;
    await this.#turn([id], action, async () => {
      const found = await this.#requireImage(action, id);
      const { row } = found;
      if (row.state === "sealed") throw refused(action, "it is sealed. Create an image from it and grow that");
      await this.#requireDetached(action, id);
      if (sizeBytes < row.sizeBytes) {
        const message = `Cannot ${action}: it has ${row.sizeBytes} bytes already and images never shrink`;
        throw new CaissonError("INVALID_CAPACITY", message);
      }
      if (sizeBytes === row.sizeBytes) return;
      // From here on it has that size: what does not get so far is done before it is used the next time.
      const grown = await step("storage.grow.commit", () =>
        this.#register.replace("image", id, found, { ...row, sizeBytes, isGrowing: true }),
      );
      if (grown === null) return;
      try {
        await this.#writers.requireNoOther(action, id);
      } catch (error) {
        await this.#register.replace("image", id, grown, row);
        throw error;
      }
      await this.#finishGrowth(id, grown);
    });
  }

  async deleteImage(id: ImageId): Promise<void> {
    const action = `delete image ${id}`;
    await this.#turn([id], action, async () => {
      await this.#requireDetached(action, id);
      const found = await this.#register.find("image", id);
      if (found !== null) await this.#reaper.remove(id, found);
    });
  }

  async attach(id: ImageId, mode: AttachMode): Promise<BlockDevice> {
    const action = `attach image ${id}`;
    return this.#turn([id], action, async () => {
      const { row } = await this.#requireImage(action, id);
      if (row.state === "sealed" && mode === "rw") {
        const advice = "it is sealed and can only be attached read-only. Create an image from it and attach that";
        throw refused(action, advice);
      }
      const shared = this.#devices.share(id, mode);
      if (shared !== null) return shared;
      const before = await this.#writers.requireNoOther(action, id);
      return mode === "ro" ? this.#serve(id, row, mode) : this.#attachWriter(action, id, row, before);
    });
  }

  async detach(device: BlockDevice): Promise<void> {
    // Closing has detached everything.
    if (this.#isClosed) return;
    const { imageId: id, mode } = device;
    await this.#turn([id], `detach ${device.path}`, async () => {
      let isGone = false;
      try {
        isGone = await this.#devices.detach(device);
      } finally {
        if (mode === "rw" && (isGone || !this.#devices.isAttached(id))) await this.#writers.forget(id);
      }
    });
  }

  async usage(id: ImageId, { base = null, maxExtents }: UsageOptions = {}): Promise<ImageUsage | null> {
    const action = `measure image ${id}`;
    return this.#run(action, async () => {
      const { row } = await this.#requireImage(action, id);
      const client = await this.#connection.client();
      if (maxExtents !== undefined && (await this.storedBytes(id)) / CEPH_CAPABILITIES.unitBytes > maxExtents)
        return null;
      const rows = await this.#register.list("image");
      const baseRow = base === null ? null : (rows.get(base)?.row ?? null);
      return new ImageMeter(client, {
        row,
        rows,
        base: baseRow !== null && isThere(baseRow) ? baseRow : null,
      }).measure();
    });
  }

  async readPieces(id: ImageId): Promise<readonly ImagePiece[]> {
    const action = `read image ${id}`;
    return this.#turn([id], action, async () => {
      await this.#requireDetached(action, id);
      const { row } = await this.#requireImage(action, id);
      const client = await this.#connection.client();
      const pieces: ImagePiece[] = [];
      for (const [start, end] of inBlocks(await client.diff(wholeOf(row, false)), row.sizeBytes)) {
        for (let position = start; position < end; position += READ_BYTES) {
          const wanted = Math.min(READ_BYTES, end - position);
          pieces.push(...nonZeroPieces(await client.read(row.image, row.snapshot, position, wanted), position));
        }
      }
      return pieces;
    });
  }

  async read(id: ImageId, offset: number, length: number): Promise<Buffer> {
    const action = `read image ${id}`;
    return this.#run(action, async () => {
      const { row } = await this.#requireImage(action, id);
      const wanted = Math.max(0, Math.min(length, row.sizeBytes - offset));
      return this.#call((client) => client.read(row.image, row.snapshot, offset, wanted));
    });
  }

  async getImage(id: ImageId): Promise<BlockImage | null> {
    return this.#run(`get image ${id}`, async () => {
      const found = await this.#register.find("image", id);
      return found === null || !isThere(found.row) ? null : describe(id, found.row);
    });
  }

  async *listImages(): AsyncGenerator<BlockImage> {
    const rows = await this.#run("list images", () => this.#register.list("image"));
    for (const [id, { row }] of rows) if (isThere(row)) yield describe(id, row);
  }

  async storedBytes(id: ImageId): Promise<number> {
    return this.#run(`measure image ${id}`, async () => {
      const found = await this.#register.find("image", id);
      if (found === null || !isThere(found.row)) return 0;
      const { row } = found;
      const extents = await this.#call((client) => client.diff(wholeOf(row, true)));
      return extents.reduce((sum, [, length]) => sum + length, 0);
    });
  }

  spaceNow(): DiskSpace {
    return { ...this.#space.last(), storedBytes: new Map() };
  }

  async capacity(): Promise<PoolCapacity> {
    const own = await this.#run("read the capacity of the pool", () => this.#space.read());
    return { ...own, disks: [{ ...own, ...this.placeOf() }] };
  }

  placeOf(): ImagePlace {
    return { directory: this.#directory, problem: null };
  }

  async growPool(sizeBytes: number): Promise<void> {
    const message = `Cannot grow the pool ${this.#directory} to ${formatSize(sizeBytes)}: it is as large as its Ceph cluster. Add OSDs to that, or raise the pool's quota`;
    throw new CaissonError("INVALID_CAPACITY", message);
  }

  /** Waits for calls under way, then detaches every device. A device that is still mounted is an error, and the pool stays open. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await this.#turns.idle();
      for (const image of this.#open) await image[Symbol.asyncDispose]();
      await this.#devices.detachAll();
      await this.#connection.close();
      await this.#lock[Symbol.asyncDispose]();
    } catch (error) {
      this.#isClosed = false;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Makes an image: its intent, then `make`, which ends with the commit. Where that fails before the commit, nothing is left. */
  async #make<T>(id: ImageId, row: ImageRow, make: (making: Found<ImageRow>) => Promise<T>): Promise<T> {
    try {
      const making = await step("storage.create.intent", () => this.#register.replace("image", id, null, row));
      if (making === null) throw refused(`create image ${id}`, "its intent is gone");
      return await make(making);
    } catch (error) {
      await this.#withdraw(id).catch((failure: unknown) => this.#tell(failure));
      throw error;
    }
  }

  async #withdraw(id: ImageId): Promise<void> {
    const found = await this.#register.find("image", id);
    if (found !== null && !isThere(found.row)) await this.#reaper.remove(id, found);
  }

  async #fill(image: string, filler: Filler, fill: (image: FillableImage) => Promise<void>): Promise<number> {
    const served = await RbdExport.open(this.#options, {
      image,
      snapshot: null,
      isWritable: true,
      isGrowable: true,
      path: this.#servedPath(image),
      timeoutMs: this.#timeoutMs,
    });
    try {
      await using target = await FillableExport.open(served.path, filler);
      await step("storage.fill", () => fill(target));
      await step("storage.fill.sync", () => target.sync());
      return target.sizeBytes;
    } finally {
      await served.close();
    }
  }

  /** Gives the image a device, with this server as its writer in the place of the one that was found (`null`: none). */
  async #attachWriter(
    action: string,
    id: ImageId,
    row: ImageRow,
    before: Found<WriterRow> | null,
  ): Promise<BlockDevice> {
    const claim = await this.#writers.claim(action, id, row.image, before);
    try {
      // A host that deletes or grows it writes that down first and then looks who writes: one of the two sees the other.
      const { row: current } = await this.#requireImage(action, id);
      if (current.image !== row.image)
        throw refused(action, "it was deleted and made again at the same time. Try again");
      return await this.#serve(id, current, "rw", () => this.#writers.confirm(action, claim));
    } catch (error) {
      await this.#writers.forget(id).catch((failure: unknown) => this.#tell(failure));
      throw error;
    }
  }

  async #serve(id: ImageId, row: ImageRow, mode: AttachMode, beforeUse?: () => Promise<void>): Promise<BlockDevice> {
    const served = await step("storage.attach.serve", () =>
      RbdExport.open(this.#options, {
        image: row.image,
        snapshot: row.snapshot,
        isWritable: mode === "rw",
        path: this.#servedPath(newName(id)),
        timeoutMs: this.#timeoutMs,
      }),
    );
    try {
      await beforeUse?.();
      return await this.#devices.attach(id, mode, served, row.isEphemeral);
    } catch (error) {
      await served.kill();
      throw error;
    }
  }

  #servedPath(name: string): string {
    return join(this.#connection.servedDirectory, name);
  }

  /** Null: no such image. What an earlier call has left half-made or half-removed is removed, and what was half-grown is grown. */
  async #findSettled(id: ImageId): Promise<Found<ImageRow> | null> {
    const found = await this.#register.find("image", id);
    if (found === null) return null;
    if (!isThere(found.row)) {
      await this.#reaper.remove(id, found);
      return null;
    }
    return found.row.isGrowing ? this.#finishGrowth(id, found) : found;
  }

  async #finishGrowth(id: ImageId, found: Found<ImageRow>): Promise<Found<ImageRow>> {
    const { row } = found;
    await step("storage.grow.resize", () => this.#call((client) => client.resize(row.image, row.sizeBytes)));
    const grown = { ...row, isGrowing: false };
    return (await step("storage.grow.end", () => this.#register.replace("image", id, found, grown))) ?? found;
  }

  async #requireImage(action: string, id: ImageId): Promise<Found<ImageRow>> {
    const found = await this.#register.find("image", id);
    if (found === null || !isThere(found.row)) throw refused(action, `there is no image ${id}`);
    return found.row.isGrowing ? this.#finishGrowth(id, found) : found;
  }

  async #requireParent(action: string, parent: ImageId, sizeBytes: number): Promise<ImageRow> {
    const { row } = await this.#requireImage(action, parent);
    if (row.state !== "sealed") throw refused(action, `its parent ${parent} is not sealed. Seal it first`);
    if (sizeBytes >= row.sizeBytes) return row;
    const message = `Cannot ${action} with ${sizeBytes} bytes: its parent ${parent} has ${row.sizeBytes}. Choose at least ${row.sizeBytes}`;
    throw new CaissonError("INVALID_CAPACITY", message);
  }

  async #requireDetached(action: string, id: ImageId): Promise<void> {
    if (this.#devices.isAttached(id))
      throw new CaissonError("VOLUME_IN_USE", `Cannot ${action}: it is attached. Detach it first`);
    await this.#writers.requireNoOther(action, id);
  }

  #blankRow(image: string): ImageRow {
    const { owner } = this.#connection;
    return { state: "making", sizeBytes: 0, image, snapshot: null, owner, isEphemeral: false, isGrowing: false };
  }

  async #call<T>(call: (client: Awaited<ReturnType<CephConnection["client"]>>) => Promise<T>): Promise<T> {
    return call(await this.#connection.client());
  }

  /** Runs a task when no other one for these images does. */
  async #turn<T>(ids: readonly ImageId[], action: string, task: () => Promise<T>): Promise<T> {
    this.#requireOpen(action);
    return this.#turns.run([...new Set(ids)], () => this.#run(action, task));
  }

  /** Says in the product's words what the cluster refused. */
  async #run<T>(action: string, task: () => Promise<T>): Promise<T> {
    this.#requireOpen(action);
    try {
      return await task();
    } catch (error) {
      throw asCephProblem(error, action, this.#options, this.#connection);
    }
  }

  #requireOpen(action: string): void {
    if (this.#isClosed)
      throw new CaissonError("SHUTTING_DOWN", `Cannot ${action}: the pool ${this.#directory} is closed`);
  }

  #tell(error: unknown): void {
    const tell = this.#options.onBackgroundError ?? ((failure) => process.emitWarning(String(failure)));
    tell(error);
  }
}

function kindOf({ isEphemeral, state, sizeBytes }: ImageRow) {
  return { state: isEphemeral ? "ephemeral" : state, sizeBytes } as const;
}

function describe(id: ImageId, { sizeBytes, state }: ImageRow): BlockImage {
  return { id, sizeBytes, isSealed: state === "sealed" };
}

/** What to ask the cluster for all that an image holds. */
function wholeOf({ image, snapshot }: ImageRow, isWhole: boolean) {
  return { image, imageId: null, since: null, snapshot, hasParent: true, isWhole };
}

/** The blocks in which there is data. */
function inBlocks(extents: readonly DiffExtent[], sizeBytes: number): ExtentSet {
  const spans = extents.flatMap(([offset, length, isData]) => {
    const start = Math.floor(offset / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES;
    return isData ? [[start, Math.min(end, sizeBytes)] as const] : [];
  });
  return extentSet(spans);
}

/** For a block image or a snapshot: never used again, so that what remains of one is not taken for another. */
function newName(id: ImageId): string {
  return `${id}.${randomBytes(6).toString("hex")}`;
}
