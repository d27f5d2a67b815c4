import type { ExtendedSnapshot, WireSnapshot } from "@caisson/protocol";
import { type BaseClientOptions, resolveConfiguration } from "../core/configuration.ts";
import { type CreateRequestOptions, HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import { getOrNull, newIdempotencyKey, type ObjectReference, toDate } from "./common.ts";
import type { StorageClass } from "./volume.ts";

/** What to create. */
export interface SnapshotInit {
  /** The name, under the rules of volume slugs; unique among the organization's volumes and snapshots. */
  slug: string;
  /** Labels, at most 5; keys up to 64 bytes, values up to 128. */
  labels?: Record<string, string>;
}

/** Whether a snapshot is in the server's snapshot store. */
export interface Replication {
  /** `"local"`: it is not; `"uploading"`: it is to be, or under way; `"failed"`: so was the last try, and there will be another; `"replicated"`: all of it is there, and the store has confirmed it. */
  readonly state: "local" | "uploading" | "failed" | "replicated";
  /** When it was replicated. */
  readonly at: Date | null;
  /** Bytes that it takes in the store, also those that it shares there with others. */
  readonly bytes: number | null;
  /** Bytes of it that were read. */
  readonly read: number | null;
  /** Bytes that were not read, because another snapshot in the store has the same. */
  readonly shared: number | null;
  /** Bytes that were sent: compressed, and without what the store had. */
  readonly sent: number | null;
  /** Key of the object in the store that names its parts. */
  readonly manifest: string | null;
  /** Why the last try failed. */
  readonly error: string | null;
  /** When it is tried again, of what has failed. */
  readonly retryAt: Date | null;
}

/** How far the image of a snapshot is on its way back from the server's snapshot store. */
export interface SnapshotFetch {
  /** When it was asked for. */
  readonly startedAt: Date;
  /** Bytes of it that have come, were verified and are in the pool. */
  readonly done: number;
  /** Bytes that are to come; `null`: it waits for its turn, or for the store's answer. */
  readonly total: number | null;
}

/** A snapshot as it was when the server answered. Its content never changes. */
export class Snapshot {
  /** The id, `snp_<region>_<20 characters>`. */
  readonly id: string;
  /** The name, unique among the organization's volumes and snapshots. */
  readonly slug: string;
  /** Where the snapshot is. */
  readonly region: string;
  /** Bytes that only this snapshot holds. The same as {@linkcode allocatedSize}. */
  readonly allocated: number;
  /** Bytes of all its data, shared data included. The same as {@linkcode flattenedSize}. */
  readonly used: number;
  /** Files, directories and links that it can hold; `null` when the server does not say. */
  readonly inodes: number | null;
  /** How many of the {@linkcode inodes} are in use; about eleven are the file system's own. */
  readonly usedInodes: number | null;
  /** Bytes that nothing else shares: what deleting it would free; `null` when the server does not say. */
  readonly exclusive: number | null;
  /** When the sizes were measured; `null`: not yet, or the server does not say. */
  readonly usageMeasuredAt: Date | null;
  /** Whether a sandbox can boot from it. The same as {@linkcode isBootable}. */
  readonly bootable: boolean;
  /** The volume that it is a snapshot of, also after that was deleted. */
  readonly volume: ObjectReference;
  /** The snapshot that the volume was made from, if any. */
  readonly baseSnapshot: ObjectReference | null;
  /**
   * What is certain about the content: `"clean"`, the volume was not attached; `"frozen"`, it was in use and its file system stood still
   * for that instant. `null` when the server does not say.
   */
  readonly consistency: "clean" | "frozen" | null;
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** When it was created, if the server says so. */
  readonly createdAt: Date | null;
  /** When it was deleted; `null` for one that is not. */
  readonly deletedAt: Date | null;
  /** Until when it can be restored; `null` for one that is not deleted. */
  readonly purgeAt: Date | null;
  /** Why it cannot be used now, and what to do, for example when its disk is not mounted; `null`: it can. It is not lost. */
  readonly unavailable: string | null;
  /** The id of the node that has it, if the server says so. */
  readonly node: string | null;
  /** Whether the schedule of its volume made it, and thins it out. Labelling it, or asking for its replication, makes it stay. */
  readonly automatic: boolean;
  /** Where its bytes live, if the server says so: as its volume's. */
  readonly storageClass: StorageClass | null;
  /** Whether it is in the server's snapshot store, if the server says so. */
  readonly replication: Replication | null;
  /** Its image is coming back from the snapshot store, for somebody who uses it; `null`: it is not. */
  readonly fetch: SnapshotFetch | null;

  /** @internal */
  constructor(data: WireSnapshot & Partial<ExtendedSnapshot>) {
    this.id = data.id;
    this.slug = data.slug;
    this.region = data.region;
    this.allocated = data.allocated_size;
    this.used = data.flattened_size;
    this.inodes = data.inodes ?? null;
    this.usedInodes = data.used_inodes ?? null;
    this.exclusive = data.exclusive ?? null;
    this.usageMeasuredAt = toDate(data.usage_measured_at);
    this.bootable = data.bootable ?? data.is_bootable;
    this.volume = data.volume;
    this.baseSnapshot = data.base_snapshot ?? null;
    this.consistency = data.consistency ?? null;
    this.labels = data.labels ?? {};
    this.createdAt = toDate(data.created_at);
    this.deletedAt = toDate(data.deleted_at);
    this.purgeAt = toDate(data.purge_at);
    this.unavailable = data.unavailable ?? null;
    this.node = data.node ?? null;
    this.automatic = data.automatic ?? false;
    this.storageClass = data.storage_class ?? null;
    this.replication = data.replication === undefined ? null : toReplication(data.replication);
    this.fetch = data.fetch == null ? null : toFetch(data.fetch);
  }

  /** Makes a snapshot of a volume; the same as `new Client(options).volumes.snapshot(idOrSlug, options)`. */
  static async create(idOrSlug: string, options: SnapshotInit & BaseClientOptions): Promise<Snapshot> {
    return await createSnapshot(new HttpClient(resolveConfiguration(options)), idOrSlug, options);
  }

  /** Gets a snapshot, or `null`; the same as `new Client(options).snapshots.get(idOrSlug)`. */
  static async get(idOrSlug: string, options?: BaseClientOptions): Promise<Snapshot | null> {
    return await getSnapshot(new HttpClient(resolveConfiguration(options)), idOrSlug);
  }

  /** Bytes that only this snapshot holds, without what it shares with others. */
  get allocatedSize(): number {
    return this.allocated;
  }

  /** Bytes of all its data, shared data included. */
  get flattenedSize(): number {
    return this.used;
  }

  /** Whether a sandbox can boot from it. */
  get isBootable(): boolean {
    return this.bootable;
  }
}

function toFetch({ started_at, done, total }: NonNullable<ExtendedSnapshot["fetch"]>): SnapshotFetch {
  return { startedAt: new Date(started_at), done, total };
}

function toReplication({ retry_at, at, ...values }: ExtendedSnapshot["replication"]): Replication {
  return { ...values, at: toDate(at), retryAt: toDate(retry_at) };
}

/** Reads the form of the wire, with or without what Caisson adds to it. */
export function toSnapshot(value: unknown): Snapshot {
  return new Snapshot(requireRecord(value) as unknown as WireSnapshot & Partial<ExtendedSnapshot>);
}

export async function createSnapshot(
  http: HttpClient,
  volumeIdOrSlug: string,
  { slug, labels }: SnapshotInit,
  options?: CreateRequestOptions,
): Promise<Snapshot> {
  const body = { slug, labels };
  const idempotencyKey = newIdempotencyKey(options);
  const request = {
    method: "POST",
    path: path`/api/v2/volumes/${volumeIdOrSlug}/snapshot`,
    body,
    idempotencyKey,
    options,
  } as const;
  return toSnapshot((await http.send(request)).body);
}

export async function getSnapshot(
  http: HttpClient,
  idOrSlug: string,
  options?: RequestOptions,
): Promise<Snapshot | null> {
  return await getOrNull(http, path`/api/v2/snapshots/${idOrSlug}`, toSnapshot, options);
}
