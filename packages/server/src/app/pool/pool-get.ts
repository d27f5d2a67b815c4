import type { DiskCapacity, OwnPoolUsage, PoolCapacity } from "@caisson/node";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { within } from "../operations/within.ts";
import { usedPercent } from "./pool-watch.ts";

export interface DiskUsage extends DiskCapacity {
  readonly usedPercent: number;
}

/** What a node's pool of one region holds, in bytes. The parts from `volumesBytes` to `sharedBytes` are all that is used. */
export interface PoolUsage extends PoolCapacity {
  readonly nodeId: string;
  readonly region: string;
  /** Why the node does not say what its pool holds; then all that only it knows is 0. Null: it does. */
  readonly problem: string | null;
  readonly disks: readonly DiskUsage[];
  /** Of what volumes and snapshots can ever have. */
  readonly usedPercent: number;
  readonly usedBytes: number;
  /** What purging the volumes, each alone, would free; measured lately, not now. */
  readonly volumesBytes: number;
  readonly snapshotsBytes: number;
  /** Deleted volumes and snapshots that can still be restored, or wait for the purge. */
  readonly deletedBytes: number;
  /** Built-in images and the template of scratch disks. */
  readonly builtInBytes: number;
  /** Scratch disks of sandboxes, and prepared ones. */
  readonly scratchBytes: number;
  /** The rest: what several of these share, and the pool's own metadata. */
  readonly sharedBytes: number;
}

/** The longest that a pool is waited for: a node that does not answer must not hide the others. */
const LOOK_MS = 5_000;

/**
 * What the pools hold, node by node and region by region, also of nodes that cannot be reached, with the reason. Throws `FORBIDDEN` unless the actor may administer the server, since it tells
 * about all organizations.
 */
export async function getPools(app: AppContext, actor: Actor): Promise<readonly PoolUsage[]> {
  requireAdmin(actor, "see what the pools hold");
  const nodes = await app.store.nodes.list();
  return Promise.all(nodes.flatMap(({ id, regions }) => regions.map((region) => getPool(app, id, region))));
}

async function getPool(app: AppContext, nodeId: string, region: string): Promise<PoolUsage> {
  const own = await app.store.disks.sumUsage(nodeId, region);
  const found = await lookAt(app, nodeId, region);
  const { capacity, builtInBytes, scratchBytes, problem } =
    "problem" in found ? { ...NOTHING, ...found } : { ...found, problem: null };
  const usedBytes = Math.max(0, capacity.totalBytes - capacity.freeBytes);
  const knownBytes = own.volumesBytes + own.snapshotsBytes + own.deletedBytes + builtInBytes + scratchBytes;
  return {
    nodeId,
    region,
    problem,
    ...capacity,
    ...own,
    disks: capacity.disks.map((disk) => ({ ...disk, usedPercent: usedPercent(disk) })),
    usedPercent: problem === null ? usedPercent(capacity) : 0,
    usedBytes,
    builtInBytes,
    scratchBytes,
    sharedBytes: Math.max(0, usedBytes - knownBytes),
  };
}

type Found = OwnPoolUsage & { readonly capacity: PoolCapacity };

const NOTHING: Found = {
  capacity: { totalBytes: 0, freeBytes: 0, availableBytes: 0, headroomBytes: 0, disks: [] },
  builtInBytes: 0,
  scratchBytes: 0,
};

async function lookAt(app: AppContext, nodeId: string, region: string): Promise<Found | { readonly problem: string }> {
  const connected = app.nodes.find({ owner: { nodeId }, region });
  const reason = app.nodes.whyNot(nodeId) ?? `the settings of the node do not name the region`;
  if (connected === null) return { problem: `Node ${nodeId} cannot be asked: ${reason}` };
  const { node } = connected;
  try {
    const work = Promise.all([node.ownPoolUsage(region), node.poolCapacity(region)]);
    const [own, capacity] = await within(LOOK_MS, work);
    return { ...own, capacity };
  } catch (error) {
    app.logger.warn({ err: error, nodeId, region }, "cannot look at a pool");
    return { problem: `Node ${nodeId} does not say: ${error instanceof Error ? error.message : String(error)}` };
  }
}
