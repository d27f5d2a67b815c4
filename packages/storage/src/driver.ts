import type { DiskClass } from "@caisson/model";

/**
 * The storage seam: block images, never file systems or tenants.
 *
 * Contract of every method
 * - Idempotent by id: the same call again gives the same answer. Deleting what is absent is success.
 * - Durable: when the promise resolves, what was made survives a power cut at the next instruction (contents, sizes, directory entries),
 *   unless the image is ephemeral, which promises nothing after a restart.
 * - Safe to call concurrently for different images. Calls for one image are serialised by the driver.
 * - A full pool is `CaissonError("STORAGE_FULL")` and leaves nothing behind.
 */
export interface StorageDriver {
  readonly name: string;
  readonly capabilities: StorageCapabilities;
  /**
   * Makes an image of `sizeBytes` (a multiple of 4096 is not required). With `parent`, a copy-on-write clone of that sealed image;
   * `sizeBytes` must then be at least the parent's; `SNAPSHOT_BUSY`: so many others are made from it that it would take too long. Without, all
   * zeroes but for `pieces`. `isEphemeral`: nothing of it must last, so nothing is synced.
   */
  createImage(id: ImageId, options: CreateImageOptions): Promise<void>;
  /**
   * Immutable copy of `source` as it is at one instant of the call. Nobody writes to the source meanwhile, unless through the file system that the
   * options name: that one is frozen for the instant.
   */
  sealImage(source: ImageId, id: ImageId, options?: SealOptions): Promise<SealReport>;
  /**
   * Makes a sealed image of what `fill` writes to it; the rest is zeros. It becomes visible as a whole when `fill` has resolved. When that throws, or the process ends before, nothing
   * is left. One of that id is success, and nothing is filled.
   */
  createSealed(id: ImageId, fill: (image: FillableImage) => Promise<void>): Promise<void>;
  /**
   * Opens a sealed image for reading, attached or not. It may be deleted meanwhile: reading then fails with `SNAPSHOT_NOT_FOUND`, and never gives zeros for what is
   * gone. The caller disposes of it; closing the driver does so too.
   */
  openSealed(id: ImageId): Promise<OpenImage>;
  /**
   * Where a sealed image may hold something else than `base`, another sealed one, in order and without overlaps; up to the end of the shorter one both are the same elsewhere. Neither is read. Null: that cannot be told without reading, as where `base` is gone, lies on another disk, or
   * shares nothing with the image.
   */
  compareSealed(id: ImageId, base: ImageId): Promise<readonly ImagePart[] | null>;
  /** Sets the size of a detached image to `sizeBytes`, never smaller than it is. */
  growImage(id: ImageId, sizeBytes: number): Promise<void>;
  /** Removes the image and gives its exclusive space back. Absent is success; attached is an error. */
  deleteImage(id: ImageId): Promise<void>;
  /** Gives the image a block device. `rw` is exclusive; `ro` may be attached several times and shares one device. */
  attach(id: ImageId, mode: AttachMode): Promise<BlockDevice>;
  /** Flushes and removes one attachment of the device; the last one removes it. Detached already is success. */
  detach(device: BlockDevice): Promise<void>;
  /** Measures the image as it is now; costs time in proportion to how scattered it is. Null: more scattered than `maxExtents` allows, or on a disk that cannot be used. */
  usage(id: ImageId, options?: UsageOptions): Promise<ImageUsage | null>;
  /** What a detached image holds, without what is zero: for images with little in them, since all of it is in memory. */
  readPieces(id: ImageId): Promise<readonly ImagePiece[]>;
  /**
   * Up to `length` bytes of the image from `offset` on, fewer at its end, attached or not; what a file system on it has not written yet is not among
   * them.
   */
  read(id: ImageId, offset: number, length: number): Promise<Buffer>;
  getImage(id: ImageId): Promise<BlockImage | null>;
  /** All images, for reconciliation, but those on a disk that cannot be read. */
  listImages(): AsyncIterable<BlockImage>;
  /** Bytes of the pool that the image maps, shared ones included: cheap, for images in use too. Absent is 0. */
  storedBytes(id: ImageId): Promise<number>;
  /**
   * The same of attached images on the disk of that directory, and what is free there (as `capacity` says), all at one instant: it is synchronous, so
   * that nothing is written back in between that would count twice or not at all, and waits for nothing that runs on the pool. Images that are not
   * attached are absent. Throws when the disk fails.
   */
  spaceNow(directory: string, ids: readonly ImageId[]): DiskSpace;
  /** Of all disks that can be used, and of each disk. */
  capacity(): Promise<PoolCapacity>;
  /** On which disk an image lies, or would if there were one of this id. Reads nothing. */
  placeOf(id: ImageId): ImagePlace;
  /**
   * Makes the pool larger while it is used, on the disk of that directory (default: the first one); the size that it has already is success.
   * `INVALID_CAPACITY` where that cannot be.
   */
  growPool(sizeBytes: number, directory?: string): Promise<void>;
  /** Releases what the driver holds (devices, mounts). The images stay. */
  close(): Promise<void>;
}

/** In what drivers differ. */
export interface StorageCapabilities {
  /** The parts, in bytes, in which a clone shares with its parent and in which usage is counted: a part of which anything is stored may count as a whole. */
  readonly unitBytes: number;
  /** Whether a write to a full pool fails. Otherwise it waits until there is room. */
  readonly failsWhenFull: boolean;
  /** Whether `spaceNow` is of this instant. Otherwise it knows what was free some seconds ago, and nothing of images. */
  readonly hasSpaceNow: boolean;
  /** Whether other hosts use the same pool at once. The driver then is a `SharedStorageDriver`. */
  readonly isShared: boolean;
}

/** A driver of a pool that several hosts use at once. An image that another one has attached read-write is `VOLUME_IN_USE`. */
export interface SharedStorageDriver extends StorageDriver {
  /** Of the pool: the same for all hosts that use it. */
  readonly identity: string;
  /** Of this opening of the pool; a later one is another. Other hosts fence it by this. */
  readonly clientInstance: string;
  /**
   * Shuts another opening of the pool out, frozen, cut off or late as it may be: when the promise resolves, the pool refuses whatever it still sends, what it
   * had attached is free, and it can attach nothing any more. Again, or of one that is closed, is success.
   */
  fence(clientInstance: string): Promise<void>;
  /** The opening that has the image attached read-write; null: none. */
  writerOf(id: ImageId): Promise<string | null>;
}

export interface Capacity {
  readonly totalBytes: number;
  /** What volumes and snapshots may still take: what is free beyond the headroom. */
  readonly availableBytes: number;
  /** All that is free. */
  readonly freeBytes: number;
  /** Kept free for ephemeral images and for metadata, so that there is a way out of a full pool. */
  readonly headroomBytes: number;
}

export interface DiskCapacity extends Capacity {
  /** On the host. */
  readonly directory: string;
  /** Why it cannot be used or measured, with what to do; it then counts as nothing. Null: it can. */
  readonly problem: string | null;
  /** Of the disks that lie on it. Absent: local. */
  readonly class?: DiskClass;
}

export interface PoolCapacity extends Capacity {
  /** The data directory's own disk first. */
  readonly disks: readonly DiskCapacity[];
}

export interface ImagePlace {
  /** Of the disk, as in `DiskCapacity`. */
  readonly directory: string;
  /** Why images there cannot be used; calls about one fail with `DISK_UNAVAILABLE`, but for `usage` and `storedBytes`. Null: they can. */
  readonly problem: string | null;
}

export interface DiskSpace extends Pick<Capacity, "freeBytes" | "headroomBytes"> {
  readonly storedBytes: ReadonlyMap<ImageId, number>;
}

/** `vol_…`, `snp_…`, `img_…` (built-in images) or `scr_…` (scratch disks): a file-name-safe text of `[a-z0-9_-]`, at most 64 characters. */
export type ImageId = string;
export type AttachMode = "rw" | "ro";

export interface CreateImageOptions {
  readonly sizeBytes: number;
  readonly parent?: ImageId;
  /** What it begins with, in pieces that do not overlap. Not together with `parent`. */
  readonly pieces?: readonly ImagePiece[];
  readonly isEphemeral?: boolean;
}

/** Some bytes of an image, and where they are. */
export interface ImagePiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface SealOptions {
  /** The file system on the source, where it is mounted read-write on this host. It is never left frozen. */
  readonly live?: LiveFileSystem | null;
  /** Runs when the copy is taken and writers go on, before it is durable and visible. */
  readonly onSealed?: () => Promise<void>;
}

export interface LiveFileSystem {
  readonly mountPath: string;
  /** How long its writers may stand still at most, in milliseconds. */
  readonly freezeDeadlineMs: number;
}

/** An image that is being filled, by one caller. */
export interface FillableImage {
  /** What tools can check it by, before it is sealed: a file or a device. */
  readonly path: string;
  /** Sets the size, at first 0, also to a smaller one. */
  setSize(sizeBytes: number): Promise<void>;
  /** Writes within the size. `STORAGE_FULL`, before anything is written, where the pool would have no room beyond its headroom; it may be tried again. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
}

/** A sealed image that is being read. */
export interface OpenImage extends AsyncDisposable {
  readonly sizeBytes: number;
  /** What may hold something else than zeros, in order and without overlaps. */
  data(): AsyncIterable<ImagePart>;
  /** Fills `target` with the bytes from `offset` on, which must all be inside the image. */
  read(offset: number, target: Uint8Array): Promise<void>;
}

/** A part of an image, in bytes. */
export interface ImagePart {
  readonly offset: number;
  readonly length: number;
}

export interface SealReport {
  /** How long writers stood still, in milliseconds; 0 without a live file system. */
  readonly frozenMs: number;
}

export interface BlockDevice {
  readonly imageId: ImageId;
  readonly mode: AttachMode;
  /** For example `/dev/loop3`. */
  readonly path: string;
}

export interface UsageOptions {
  /** The sealed image that this one came from, directly or as the copy of one that did. One that is gone counts as none. */
  readonly base?: ImageId | null;
  /** The most parts, of image and base together, that the caller wants to wait for. Default: no limit. */
  readonly maxExtents?: number;
  /** What an earlier call found, perhaps of an earlier run. A driver may give its `exclusiveBytes` again, where measuring costs more than it is worth. */
  readonly known?: KnownUsage | null;
}

export interface KnownUsage {
  readonly exclusiveBytes: number;
  /** When that call began. */
  readonly measuredAtMs: number;
}

export interface ImageUsage {
  /** Bytes that it holds beyond its base: what came since. Without a base, all. Who else shares them does not matter. */
  readonly allocatedBytes: number;
  /** All bytes mapped in it, shared ones included. */
  readonly flattenedBytes: number;
  /** Bytes that only this image holds: what deleting it would free. Up to a day old where the driver keeps a clone of the image in reserve. */
  readonly exclusiveBytes: number;
}

export interface BlockImage {
  readonly id: ImageId;
  readonly sizeBytes: number;
  readonly isSealed: boolean;
}
