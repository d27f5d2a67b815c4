import type { Duplex } from "node:stream";
import type { Labels } from "@caisson/model";
import type { EgressPolicy, ExitCause, SandboxLimits } from "@caisson/runtime";
import type { ForeignFileSystem, ImagePlace, ImageUsage, InodeCount, KnownUsage, PoolCapacity } from "@caisson/storage";

/**
 * One host, with all that is on it: pools, disks, mounts, scratch disks, roots, networks and sandboxes. It knows ids and sizes, and nothing of
 * organizations, names or limits: who may do what is decided before, in the rows.
 *
 * Contract of every method
 * - Arguments and results are plain data, but for the connections of `openAgent` and `connectInside` and the pieces of `exportDisk` and `importDisk`, so that a node may be another process.
 * - Idempotent by id: the same call again gives the same answer, also while the first one is under way. What ends or is deleted may be absent.
 * - Calls for one disk, or one sandbox, take turns here; others run side by side.
 * - A call that fails may have done a part. The caller undoes it with the call that its comment names, which is repeated until it succeeds.
 * - Errors are `CaissonError`s, or those of the kernel, with the errno's name in `code`. `REGION_UNAVAILABLE`: the node has no pool of that region.
 *
 * What happens by itself it tells as a `NodeEvent`.
 */
export interface Node {
  describe(): Promise<NodeDescription>;
  /** Begins to keep ready what sandboxes start with. Not before, because that takes room which the caller may have to make first. */
  prepare(): Promise<void>;

  /** How full the pool of a region is, and each of its disks. */
  poolCapacity(region: string): Promise<PoolCapacity>;
  /** What the node's own images hold in a pool, in bytes. */
  ownPoolUsage(region: string): Promise<OwnPoolUsage>;
  /** Makes a pool larger while it is used. `INVALID_CAPACITY` where that cannot be. */
  growPool(region: string, growth: PoolGrowth): Promise<void>;
  /** Frees what can be made again, such as spare clones, until there is room. It says nothing of how much that was: `poolCapacity` does. */
  makeRoom(region: string): Promise<void>;

  /**
   * Makes a volume with its file system, durably: a new one, or that of a snapshot or base image. `STORAGE_FULL` when there is no room, and
   * `SNAPSHOT_BUSY`. Undone by `deleteDisk`, and only repeated by the run of the node that began it.
   */
  createDisk(disk: NewDiskSpec): Promise<void>;
  /**
   * Makes a snapshot of a volume, durably. A volume that is written to here is frozen for an instant of that. `STORAGE_FULL` when there is no room.
   * Undone by `deleteDisk`.
   */
  sealDisk(seal: SealSpec): Promise<SealedDisk>;
  /**
   * Opens a snapshot to be read piece by piece, without its holes, at the pace of the reader, also while it is in use. When it is deleted meanwhile, reading fails with `SNAPSHOT_NOT_FOUND`.
   * The caller disposes of it.
   */
  exportDisk(disk: ExportSpec): Promise<DiskExport>;
  /**
   * Makes a snapshot of pieces that come in order of their offset, durably; what is between them is zeros. Its file system is checked as that of a stranger before anything mounts it
   * (`INVALID_SNAPSHOT_FILE`), unless it is the installation's own. `STORAGE_FULL` when there is no room. Only a whole and sound one becomes visible. Undone by `deleteDisk`.
   * When `signal` aborts, the writing and the check end at once, and it rejects with the reason.
   */
  importDisk(disk: ImportSpec, pieces: AsyncIterable<DiskPiece>, signal: AbortSignal): Promise<void>;
  /** Makes a volume that is not mounted that large, with its file system. There is no way back: it is repeated until it succeeds. */
  growDisk(disk: DiskReference, sizeBytes: number): Promise<void>;
  /** Frees the storage of a volume or snapshot. `in-use`: a sandbox runs from it, and nothing has happened. */
  deleteDisk(disk: DiskReference): Promise<"deleted" | "in-use">;
  /**
   * Shuts the earlier run of the node that may have the volume still out of it, where that was on another machine, and brings its file system into the state that a proper unmount leaves. `living`: how other nodes that are not lost
   * have the pool open (`RegionDescription.shared`); nobody is shut out for one of them, which is `VOLUME_IN_USE`. `VOLUME_DAMAGED` where that could lose files. Success where it has no image, as one that a restore has brought
   * back and that is not rebuilt yet.
   */
  recoverDisk(disk: DiskReference, living: readonly string[]): Promise<void>;
  /**
   * Shuts another node out of the replicated pool of a region, by its opening of that (`RegionDescription.shared`): when the promise resolves, the pool refuses whatever that node still sends. Again is success.
   * `DISK_UNAVAILABLE`: it may still write.
   */
  fence(region: string, instance: string): Promise<void>;
  /** Null: there is none. */
  getDisk(disk: DiskReference): Promise<{ readonly sizeBytes: number } | null>;
  /** Measures what a volume or snapshot holds now. Null: it lies on a disk that cannot be used, or has no image, as what has to come back from the snapshot store first. */
  measureDisk(disk: DiskReference, options: MeasureOptions): Promise<DiskMeasurement | null>;
  /** Gives what was deleted in a mounted volume back to the pool, and tells of an error that its file system has reported. Not mounted is success. */
  tendDisk(disk: DiskReference): Promise<void>;
  /** Ids of all images in a pool that are not the node's own, but those on a disk that cannot be read. */
  listDisks(region: string): Promise<readonly string[]>;
  /** Ids of the volumes of a region that are mounted here. */
  listMountedDisks(region: string): Promise<readonly string[]>;
  /** On which disk of the pool each of these lies, or would: one for each id, in their order. */
  placesOf(region: string, ids: readonly string[]): Promise<readonly ImagePlace[]>;

  /**
   * Mounts what the sandbox has and starts it; resolves when its agent takes connections. Ended by `stopSandbox`, also after a failure or an abort,
   * when nothing is under way any more.
   */
  startSandbox(sandbox: SandboxSpec, signal: AbortSignal): Promise<StartedSandbox>;
  /**
   * Ends the sandbox whatever there is of it, gives back what it had mounted, and resolves when its volumes are free. After a failure it goes on
   * where that was. Unknown is success.
   */
  stopSandbox(id: string): Promise<SandboxEnd>;
  /** All sandboxes that are here, also those that start or end: for a caller that has lost what it knew of them. */
  listSandboxes(): Promise<readonly PresentSandbox[]>;
  /** Why the sandbox ends by itself, when it does; null while its first process takes connections, and of one that there is not. */
  ownEnd(id: string): Promise<ExitCause | null>;
  /** A connection to the sandbox's agent; it is destroyed with an error when there is none. */
  openAgent(id: string): Duplex;
  /**
   * Connects to a TCP port as a program inside would: on 127.0.0.1, then `::1`, then the sandbox's own address, or on `address` alone, which is one of
   * those. Throws an error with the code `ECONNREFUSED` when nothing listens there.
   */
  connectInside(id: string, port: number, address?: string): Promise<Duplex>;
}

export interface NodeDescription {
  /** Which run of the node this is: random, the same until its end. What another run had is over, but for its disks. */
  readonly runId: string;
  readonly regions: readonly RegionDescription[];
  /** As its settings say. */
  readonly labels: Labels;
  /** Sandboxes that this host has room for at a time. */
  readonly placeCount: number;
  /** Why it is not more, where the host is the reason, as the end of a sentence. */
  readonly placeBound: string | null;
  /** Pieces of the node's own undoing that have failed and are tried again. */
  readonly retriedWorkCount: number;
}

export interface RegionDescription {
  readonly name: string;
  /** None when the pool had no room for it at the start. */
  readonly baseImages: readonly BaseImage[];
  /** Whether its settings name a replicated pool, which may be out of reach at the moment. */
  readonly hasReplicated: boolean;
  /** What tells its replicated pool and this opening of it from others; null: the pool is none that nodes share, or is not open yet. Absent: an older version does not say. */
  readonly shared?: { readonly identity: string; readonly instance: string } | null;
}

export interface BaseImage {
  /** Name on the wire, for example `builtin:debian-13`. */
  readonly name: string;
  /** Image in the pool; it carries the key of the image's content. */
  readonly imageId: string;
  readonly sizeBytes: number;
}

export interface OwnPoolUsage {
  /** Base images and the template of scratch disks. */
  readonly builtInBytes: number;
  /** Scratch disks of sandboxes, and prepared ones. */
  readonly scratchBytes: number;
}

export interface PoolGrowth {
  readonly sizeBytes: number;
  /** Directory of one of the further disks, as in the settings. Null: the data directory's own. */
  readonly disk: string | null;
}

/** A volume or snapshot: `vol_…`, `snp_…`. */
export interface DiskReference {
  readonly region: string;
  readonly id: string;
}

export interface NewDiskSpec extends DiskReference {
  readonly sizeBytes: number;
  /** What it is a clone of, not larger than it; null: it gets a file system of its own. */
  readonly source: { readonly imageId: string; readonly sizeBytes: number } | null;
  /** How many inodes a file system of its own has at least; null: as many as its size suggests. */
  readonly inodes: number | null;
}

export interface SealSpec {
  readonly region: string;
  readonly volumeId: string;
  readonly snapshotId: string;
}

export interface SealedDisk {
  /** `frozen`: something could write to the volume; it is as after a crash at that instant. `clean`: as after an unmount. */
  readonly consistency: "clean" | "frozen";
  /** How long writers stood still, in milliseconds. */
  readonly frozenMs: number;
}

/** Some bytes of a disk, and where they are. */
export interface DiskPiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface ExportSpec extends DiskReference {
  /** Another snapshot of the node: what is the same in both need not be read. */
  readonly base?: string | null;
}

/** A part of a disk, in bytes. */
export interface DiskPart {
  readonly offset: number;
  readonly length: number;
}

export interface DiskExport extends AsyncDisposable {
  readonly sizeBytes: number;
  readonly fileSystem: ForeignFileSystem;
  /**
   * Where it may hold something else than the base, in order and without overlaps, each beginning at a multiple of 1 MiB, and ending at one or at the end: at most 4096. Elsewhere, up to the end of the shorter one, both are the same. Absent: no base was asked for, or the
   * node cannot tell without reading all.
   */
  readonly changed?: readonly DiskPart[];
  /** In order and without overlaps; what is between them is zeros. With `changed`, only what lies there. */
  pieces(): AsyncGenerator<DiskPiece, void>;
}

export interface ImportSpec extends DiskReference {
  readonly sizeBytes: number;
  /** It is verified to be an image that this installation made: it is taken as it is, unchecked and unchanged. Default: it may be a stranger's. */
  readonly isOwn?: boolean;
}

export interface MeasureOptions {
  /** The image that this one came from; null: none. */
  readonly baseImageId: string | null;
  /** The most parts that the caller wants to wait for; null: no limit. A thousand take some 2.5 ms. */
  readonly maxExtents: number | null;
  /** What an earlier measurement found. */
  readonly known: KnownUsage | null;
}

export interface DiskMeasurement {
  /** Null: it has more parts than the caller wants to wait for. */
  readonly usage: ImageUsage | null;
  /** Null: there is no file system on it. */
  readonly inodes: InodeCount | null;
}

export interface SandboxSpec {
  readonly id: string;
  readonly region: string;
  /** What it is called inside; null: its id with `-` for `_`. */
  readonly hostname: string | null;
  /** `image`: a snapshot or base image, whose changes end with the sandbox. */
  readonly root:
    | { readonly kind: "image"; readonly imageId: string }
    | { readonly kind: "volume"; readonly volumeId: string };
  /** Beside the root. */
  readonly mounts: readonly SandboxMount[];
  readonly limits: SandboxLimits;
  /** Variables of the sandbox, over the defaults. */
  readonly env: Readonly<Record<string, string>>;
  /** What it may reach; null: every public address, and no secrets. It stays in memory. */
  readonly egress: EgressPolicy | null;
}

export interface SandboxMount {
  readonly volumeId: string;
  /** Absolute path inside. */
  readonly path: string;
  readonly isReadOnly: boolean;
}

export interface StartedSandbox {
  /** How long each step took, in order, in milliseconds. */
  readonly trace: readonly { readonly step: string; readonly durationMs: number }[];
}

export interface SandboxEnd {
  /** What went wrong with its volumes while it had them: sentences for people. */
  readonly damages: readonly string[];
}

export interface PresentSandbox {
  readonly id: string;
  /** As `ownEnd` of it. */
  readonly ownEnd: ExitCause | null;
}

/** What happens on a node without having been asked for. */
export type NodeEvent =
  /** A volume lost writes, or its file system broke. It is told until it has been taken, before the volume is free. */
  | { readonly kind: "volume-damaged"; readonly volumeId: string; readonly message: string }
  /** The pool is so full that writers of these volumes stand still. */
  | { readonly kind: "pool-full"; readonly region: string; readonly volumeIds: readonly string[] }
  /** A sandbox's first process is gone, for whatever reason. */
  | { readonly kind: "sandbox-exited"; readonly sandboxId: string; readonly cause: ExitCause }
  /** Work that no call waits for has failed. */
  | { readonly kind: "background-error"; readonly work: "storage" | "space-guard" | "retry" };

/** Resolves when the event has been taken. A rejection: it is told again, where its comment says so. */
export type TakeNodeEvent = (event: NodeEvent) => Promise<void>;
