import { type HttpClient, type RequestOptions, requireRecord } from "../core/http.ts";
import { requireArray } from "../core/page.ts";
import type { StorageClass } from "./volume.ts";

/** What a node's storage pool of a region holds. All but the percentage and the hours are bytes. */
export interface Pool {
  /** The node that has it. */
  node: string;
  /** The region. */
  region: string;
  /** Why the node does not say what it holds; what only it knows is 0 then. `null`: it does. */
  problem: string | null;
  /** What the pool, and the disk that it lies on, can hold. */
  total: number;
  /** All that it holds: the sum of the parts from `volumes` to `shared`. */
  used: number;
  /** All that is free. */
  free: number;
  /** What of that is kept for scratch disks of sandboxes and for metadata. */
  headroom: number;
  /** What volumes and snapshots may still take. */
  available: number;
  /** How much is used of what volumes and snapshots can ever have. */
  usedPercent: number;
  /** What purging each volume alone would free, as measured lately. */
  volumes: number;
  /** The same of snapshots. */
  snapshots: number;
  /** The same of deleted ones that can still be restored. */
  deleted: number;
  /** Built-in images. */
  builtIn: number;
  /** Scratch disks of sandboxes. */
  scratch: number;
  /** What several of these share, and metadata. */
  shared: number;
  /** How long deleted volumes and snapshots are kept. */
  retentionHours: number;
  /** How long they are kept when the pool needs room. */
  retentionFloorHours: number;
  /** Its disks, the one of the server's data directory first; all sizes above are sums over them. */
  disks: PoolDisk[];
}

/** A disk of a storage pool. All but the percentage are bytes. */
export interface PoolDisk {
  /** Where the pool's part on this disk is, on the server's host. */
  directory: string;
  /** Of the volumes and snapshots that lie on it. */
  storageClass: StorageClass;
  /** Why the disk cannot be used, and what to do; all sizes are 0 then. What lies on it is not lost. */
  problem: string | null;
  /** What it can hold. */
  total: number;
  /** All that it holds. */
  used: number;
  /** All that is free. */
  free: number;
  /** What of that is kept for scratch disks of sandboxes and for metadata. */
  headroom: number;
  /** What volumes and snapshots may still take. */
  available: number;
  /** How much is used of what volumes and snapshots can ever have. */
  usedPercent: number;
}

/** The server's storage pools: for tokens of the server's first organization. */
export class Pools {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** What each region's pool holds. Throws {@linkcode PermissionDeniedError} for other organizations' tokens. */
  async list(options?: RequestOptions): Promise<Pool[]> {
    const response = await this.#http.send({ method: "GET", path: "/api/v1/pools", options });
    return requireArray(response.body).map(toPool);
  }

  /** Applies a `pool.size` that was raised in the server's settings, without a restart. Throws {@linkcode BadRequestError} for a smaller one. */
  async grow(options?: RequestOptions): Promise<Pool[]> {
    const request = { method: "POST", path: "/api/v1/pools/grow", isRepeatable: true, options } as const;
    return requireArray((await this.#http.send(request)).body).map(toPool);
  }
}

function toPool(value: unknown): Pool {
  const wire = requireRecord(value);
  const number = (name: string) => Number(wire[name]);
  return {
    node: String(wire.node),
    region: String(wire.region),
    problem: typeof wire.problem === "string" ? wire.problem : null,
    ...toSpace(wire),
    volumes: number("volumes"),
    snapshots: number("snapshots"),
    deleted: number("deleted"),
    builtIn: number("built_in"),
    scratch: number("scratch"),
    shared: number("shared"),
    retentionHours: number("retention_hours"),
    retentionFloorHours: number("retention_floor_hours"),
    disks: requireArray(wire.disks).map(toDisk),
  };
}

function toDisk(value: unknown): PoolDisk {
  const wire = requireRecord(value);
  return {
    directory: String(wire.directory),
    storageClass: wire.storage_class === "replicated" ? "replicated" : "local",
    problem: typeof wire.problem === "string" ? wire.problem : null,
    ...toSpace(wire),
  };
}

/** What a pool and each of its disks tell alike. */
function toSpace(wire: Readonly<Record<string, unknown>>): Omit<PoolDisk, "directory" | "storageClass" | "problem"> {
  const number = (name: string) => Number(wire[name]);
  return {
    total: number("total"),
    used: number("used"),
    free: number("free"),
    headroom: number("headroom"),
    available: number("available"),
    usedPercent: number("used_percent"),
  };
}
