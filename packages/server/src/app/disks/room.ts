import type { Disk, Owner } from "@caisson/database";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { diskNeedsRoom, type Node } from "@caisson/node";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { ReplicaRound } from "../replication/replica-round.ts";
import { purgeDisk } from "./disk-purge.ts";

/** Deleted disks that are looked at in one go. */
const PURGE_BATCH = 1000;

/** Makes room in the pools, at most once at a time in each. */
export class RoomMaker {
  readonly #making = new Map<string, Promise<boolean>>();

  /** Joins what is under way in that region of the node, or begins. */
  run(nodeId: string, region: string, make: () => Promise<boolean>): Promise<boolean> {
    const pool = `${nodeId} ${region}`;
    const known = this.#making.get(pool);
    if (known !== undefined) return known;
    const making = make().finally(() => this.#making.delete(pool));
    this.#making.set(pool, making);
    return making;
  }
}

/**
 * Makes room in a pool of a node that needs it: first what can be made again goes, then volumes and snapshots that are deleted, the oldest deletion
 * first, on the disk that needs it, each only after the least time that the settings promise (`volumes.retention_floor_hours`). It stops as soon as there is room.
 * Resolves to whether anything was freed.
 */
export function makeRoom(app: AppContext, connected: ConnectedNode, region: string): Promise<boolean> {
  const { owner, node } = connected;
  return app.room.run(owner.nodeId, region, async () => {
    const before = await node.poolCapacity(region);
    await node.makeRoom(region);
    await purgeEarly(app, connected, region);
    const after = await node.poolCapacity(region);
    return after.freeBytes > before.freeBytes;
  });
}

/** Runs work that needs room in the pool; when it is refused for want of it, makes room and tries once more. */
export async function withRoom<T>(
  app: AppContext,
  connected: ConnectedNode,
  region: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CaissonError && error.code === "STORAGE_FULL") && !hasErrorCode(error, "ENOSPC"))
      throw error;
    if (!(await makeRoom(app, connected, region))) throw error;
    return work();
  }
}

async function purgeEarly(app: AppContext, { owner, node }: ConnectedNode, region: string): Promise<void> {
  const { retentionMs, retentionFloorMs } = app.config.volumes;
  if (retentionFloorMs >= retentionMs) return;
  const beforeMs = Date.now() - retentionFloorMs;
  const replicas = new ReplicaRound();
  let full = await findFull(node, region);
  let after: Disk | null = null;
  // As far as there are any: those of other disks may come first.
  while (full.length > 0) {
    const page = await app.store.disks.listDeleted(owner.nodeId, region, beforeMs, { limit: PURGE_BATCH, after });
    after = page.at(-1) ?? null;
    if (after === null) return;
    const places = await node.placesOf(
      region,
      page.map(({ id }) => id),
    );
    for (const [index, deleted] of page.entries()) {
      // What lies elsewhere would make no room there.
      if (!full.includes(places[index]?.directory ?? "")) continue;
      await purgeOneEarly(app, owner, deleted, replicas);
      full = await findFull(node, region);
      if (full.length === 0) return;
    }
  }
}

/** The directories of the disks that need room. */
async function findFull(node: Node, region: string): Promise<readonly string[]> {
  const { disks } = await node.poolCapacity(region);
  return disks.filter(diskNeedsRoom).map(({ directory }) => directory);
}

async function purgeOneEarly(
  app: AppContext,
  owner: Owner,
  { id, slug, kind }: Disk,
  replicas: ReplicaRound,
): Promise<void> {
  const disk = await app.store.disks.beginPurgeOf(owner, id);
  if (disk === null) return;
  const isPurged = await purgeDisk(app, disk, { reason: "pool-full", replicas }).catch((error: unknown) => {
    app.logger.error({ err: error, id, slug }, "cannot purge a disk early; the next purge tries again");
    return false;
  });
  if (isPurged) app.logger.warn({ id, slug, kind }, "purged a deleted disk early: the pool needs room");
}
