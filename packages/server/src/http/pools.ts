import { ErrorSchema, StorageClassSchema } from "@caisson/protocol";
import { Type } from "typebox";
import type { AppContext } from "../app/context.ts";
import { getPools, type PoolUsage } from "../app/pool/pool-get.ts";
import { growPools } from "../app/pool/pool-grow.ts";
import type { Http } from "./request.ts";

const errors = { "4xx": ErrorSchema, "5xx": ErrorSchema };
const tags = ["administration"];

const Bytes = (description: string) => Type.Integer({ description: `Bytes: ${description}` });
const DiskSchema = Type.Object({
  directory: Type.String({ description: "Of the part of the pool on this disk, on the server's host" }),
  storage_class: StorageClassSchema("Of the volumes and snapshots that lie on it"),
  problem: Type.Union([Type.String(), Type.Null()], {
    description: "Why it cannot be used, with what to do; its sizes are 0 then. What lies on it is not lost",
  }),
  total: Bytes("what it can hold"),
  used: Bytes("all that it holds"),
  free: Bytes("all that is free"),
  headroom: Bytes("of that kept for scratch disks and metadata"),
  available: Bytes("what volumes and snapshots may still take"),
  used_percent: Type.Number({ description: "Of what volumes and snapshots can ever have" }),
});
const PoolSchema = Type.Object({
  node: Type.String(),
  region: Type.String(),
  problem: Type.Union([Type.String(), Type.Null()], {
    description:
      "Why the node does not say what its pool holds; what only it knows is 0 then. What lies there is not lost",
  }),
  total: Bytes("what the pool, and the disk that it lies on, can hold"),
  used: Bytes("all that it holds; the sum of the parts below"),
  free: Bytes("all that is free"),
  headroom: Bytes("of that kept for scratch disks and metadata"),
  available: Bytes("what volumes and snapshots may still take"),
  used_percent: Type.Number({ description: "Of what volumes and snapshots can ever have" }),
  volumes: Bytes("what purging each volume alone would free, as measured lately"),
  snapshots: Bytes("the same of snapshots"),
  deleted: Bytes("the same of deleted ones that can still be restored, or wait for their purge"),
  built_in: Bytes("built-in images"),
  scratch: Bytes("scratch disks of sandboxes"),
  shared: Bytes("what several of these share, and metadata"),
  retention_hours: Type.Number({ description: "How long deleted things are kept" }),
  retention_floor_hours: Type.Number({ description: "How long they are kept when the pool needs room" }),
  disks: Type.Array(DiskSchema, { description: "The data directory's own disk first; what stands above is their sum" }),
});

/** What the pools hold, and their growth: for administrators. */
export function poolRoutes(app: AppContext, http: Http): void {
  const show = (pool: PoolUsage) => ({
    node: pool.nodeId,
    region: pool.region,
    problem: pool.problem,
    total: pool.totalBytes,
    used: pool.usedBytes,
    free: pool.freeBytes,
    headroom: pool.headroomBytes,
    available: pool.availableBytes,
    used_percent: rounded(pool.usedPercent),
    volumes: pool.volumesBytes,
    snapshots: pool.snapshotsBytes,
    deleted: pool.deletedBytes,
    built_in: pool.builtInBytes,
    scratch: pool.scratchBytes,
    shared: pool.sharedBytes,
    retention_hours: app.config.volumes.retentionMs / 3_600_000,
    retention_floor_hours: Math.min(app.config.volumes.retentionMs, app.config.volumes.retentionFloorMs) / 3_600_000,
    disks: pool.disks.map((disk) => ({
      directory: disk.directory,
      storage_class: disk.class ?? "local",
      problem: disk.problem,
      total: disk.totalBytes,
      used: Math.max(0, disk.totalBytes - disk.freeBytes),
      free: disk.freeBytes,
      headroom: disk.headroomBytes,
      available: disk.availableBytes,
      used_percent: disk.problem === null ? rounded(disk.usedPercent) : 0,
    })),
  });
  const response = { 200: Type.Array(PoolSchema), ...errors };

  http.get(
    "/api/v1/pools",
    { schema: { tags, summary: "What the pool of each node and region holds", response } },
    async ({ actor }) => (await getPools(app, actor)).map(show),
  );
  http.post(
    "/api/v1/pools/grow",
    {
      schema: {
        tags,
        summary: "Apply raised sizes of the pool in the settings of this server's host, without a restart",
        response,
      },
    },
    async ({ actor }) => {
      await growPools(app, actor);
      return (await getPools(app, actor)).map(show);
    },
  );
}

function rounded(percent: number): number {
  return Math.round(percent * 10) / 10;
}
