import type { ExtendedVolume, WireVolume } from "@caisson/protocol";
import { type BaseClientOptions, resolveConfiguration } from "../core/configuration.ts";
import { type CreateRequestOptions, HttpClient, path, type RequestOptions, requireRecord } from "../core/http.ts";
import type { SizeText } from "../core/limits.ts";
import { getOrNull, newIdempotencyKey, type ObjectReference, type Parent, toDate } from "./common.ts";

/** What to create. */
export interface VolumeInit {
  /**
   * The name: 2 to 32 characters of `a-z`, `0-9` and `-`, no `-` at either end nor at the positions 3 and 4 together; unique among the
   * organization's volumes and snapshots.
   */
  slug: string;
  /** Where to create it. */
  region: string;
  /** Size: bytes, or a text such as `"10GB"`; 300 MB to 20 GB. */
  capacity: number | SizeText;
  /** What to start from: `"builtin:debian-13"`, or the id or slug of a snapshot in the same region. Default: an empty file system. */
  from?: "builtin:debian-13" | (string & {});
  /**
   * Where its bytes live: `"local"`, in the pool of a node; `"replicated"`, in the server's replicated pool, if it has one. Default: as the server's
   * settings say. A volume that is made from a snapshot of the other class is a whole copy of it.
   */
  storageClass?: StorageClass;
  /**
   * How many files, directories and links a blank volume can hold at least: 1024 to one for every 4 KiB of the capacity. Default: one for every 10
   * KiB. Each takes 256 bytes. Clones and snapshots keep them, and growing adds in proportion; with `from` they cannot be chosen.
   */
  inodes?: number;
  /** Labels, at most 5; keys up to 64 bytes, values up to 128. */
  labels?: Record<string, string>;
  /** How often the server makes a snapshot of it by itself, such as `"5m"`, see {@linkcode Volumes.schedule}. Default: never. */
  every?: Period;
}

/** How often: a whole number of seconds, minutes, hours or days; from `"1m"` to `"30d"`, unless the server's settings say otherwise. */
export type Period = `${number}${"s" | "m" | "h" | "d"}`;

/** The snapshots that the server makes of a volume by itself. */
export interface VolumeSchedule {
  /** How often, such as `"5m"`. */
  readonly every: string;
  /** When the next one is made, or is tried again. */
  readonly nextAt: Date;
  /** Why the last one could not be made; `null`: it could. */
  readonly error: string | null;
  /** Whether they go to the snapshot store; `false`: the server has none, and they are in its pool alone. */
  readonly replicates: boolean;
}

/** Where the bytes of a volume or snapshot live. Snapshots lie with their volumes. */
export type StorageClass = "local" | "replicated";

/** What went wrong with a volume. */
export interface VolumeError {
  /** For people. */
  message: string;
  /** When it was found. */
  at: Date;
}

/** A volume as it was when the server answered; ask again for newer figures. */
export class Volume {
  /** The id, `vol_<region>_<20 characters>`. */
  readonly id: string;
  /** The name, unique among the organization's volumes and snapshots. */
  readonly slug: string;
  /** Where the volume is. */
  readonly region: string;
  /** Size in bytes. */
  readonly capacity: number;
  /** Bytes of all data on the volume, shared data included. The same as {@linkcode estimatedFlattenedSize}. */
  readonly used: number;
  /** Bytes that only this volume holds. The same as {@linkcode estimatedAllocatedSize}. */
  readonly allocated: number;
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
  /** What it was made from; `null` for a blank volume. */
  readonly parent: Parent | null;
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** The id of the sandbox that holds it for writing, or `null`. */
  readonly attachedTo: string | null;
  /** When it was created, if the server says so. */
  readonly createdAt: Date | null;
  /** When it was deleted; `null` for one that is not. */
  readonly deletedAt: Date | null;
  /** Until when it can be restored; `null` for one that is not deleted. */
  readonly purgeAt: Date | null;
  /** What went wrong with it, such as writes that were lost, until it is acknowledged (`volumes.acknowledge`); `null`: nothing. */
  readonly lastError: VolumeError | null;
  /** Why it cannot be used now, and what to do, for example when its disk is not mounted; `null`: it can. It is not lost. */
  readonly unavailable: string | null;
  /** The id of the node that has it, if the server says so. */
  readonly node: string | null;
  /** Where its bytes live, if the server says so. */
  readonly storageClass: StorageClass | null;
  /** The snapshots that the server makes of it by itself; `null`: it makes none. */
  readonly schedule: VolumeSchedule | null;
  /** As of when the server's snapshot store has it: when the newest of its replicated snapshots was taken; `null`: it has none. */
  readonly replicatedAt: Date | null;
  readonly #baseSnapshot: ObjectReference | null;

  /** @internal */
  constructor(data: WireVolume & Partial<ExtendedVolume>) {
    this.id = data.id;
    this.slug = data.slug;
    this.region = data.region;
    this.capacity = data.capacity;
    this.used = data.used ?? data.estimated_flattened_size;
    this.allocated = data.estimated_allocated_size;
    this.inodes = data.inodes ?? null;
    this.usedInodes = data.used_inodes ?? null;
    this.exclusive = data.exclusive ?? null;
    this.usageMeasuredAt = toDate(data.usage_measured_at);
    this.bootable = data.is_bootable;
    this.#baseSnapshot = data.base_snapshot ?? null;
    this.parent = data.parent ?? (this.#baseSnapshot && { kind: "snapshot", ...this.#baseSnapshot });
    this.labels = data.labels ?? {};
    this.attachedTo = data.attached_to ?? null;
    this.createdAt = toDate(data.created_at);
    this.deletedAt = toDate(data.deleted_at);
    this.purgeAt = toDate(data.purge_at);
    this.lastError = data.last_error ? { message: data.last_error.message, at: new Date(data.last_error.at) } : null;
    this.unavailable = data.unavailable ?? null;
    this.node = data.node ?? null;
    this.storageClass = data.storage_class ?? null;
    this.schedule = data.schedule ? toSchedule(data.schedule) : null;
    this.replicatedAt = toDate(data.replicated_at);
  }

  /** Creates a volume; the same as `new Client(options).volumes.create(options)`. */
  static async create(options: VolumeInit & BaseClientOptions): Promise<Volume> {
    return await createVolume(new HttpClient(resolveConfiguration(options)), options);
  }

  /** Gets a volume, or `null`; the same as `new Client(options).volumes.get(idOrSlug)`. */
  static async get(idOrSlug: string, options?: BaseClientOptions): Promise<Volume | null> {
    return await getVolume(new HttpClient(resolveConfiguration(options)), idOrSlug);
  }

  /** Bytes that only this volume holds, without what it shares with the snapshot it was made from. */
  get estimatedAllocatedSize(): number {
    return this.allocated;
  }

  /** Bytes of all data on the volume, shared data included. */
  get estimatedFlattenedSize(): number {
    return this.used;
  }

  /** Whether a sandbox can boot from it. */
  get isBootable(): boolean {
    return this.bootable;
  }

  /** The snapshot it was made from; `null` for blank volumes and those made from a built-in image. */
  get baseSnapshot(): ObjectReference | null {
    return this.#baseSnapshot;
  }
}

function toSchedule({ next_at, ...values }: NonNullable<ExtendedVolume["schedule"]>): VolumeSchedule {
  return { ...values, nextAt: new Date(next_at) };
}

/** Reads the form of the wire, with or without what Caisson adds to it. */
export function toVolume(value: unknown): Volume {
  return new Volume(requireRecord(value) as unknown as WireVolume & Partial<ExtendedVolume>);
}

export async function createVolume(
  http: HttpClient,
  { slug, region, capacity, from, storageClass, inodes, labels, every }: VolumeInit,
  options?: CreateRequestOptions,
): Promise<Volume> {
  const body = { slug, region, capacity, from, storage_class: storageClass, inodes, labels, every };
  const idempotencyKey = newIdempotencyKey(options);
  return toVolume((await http.send({ method: "POST", path: "/api/v2/volumes", body, idempotencyKey, options })).body);
}

export async function getVolume(http: HttpClient, idOrSlug: string, options?: RequestOptions): Promise<Volume | null> {
  return await getOrNull(http, path`/api/v2/volumes/${idOrSlug}`, toVolume, options);
}
