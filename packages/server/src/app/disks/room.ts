import type { Disk } from "@caisson/database";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { diskNeedsRoom } from "@caisson/node";
import type { AppContext } from "../context.ts";
import { purgeDisk } from "./disk-purge.ts";

/** Deleted disks that are looked at in one go. */
const PURGE_BATCH = 1000;

/** Makes room in the pools, at most once at a time in each. */
export class RoomMaker {
  readonly #making = new Map<string, Promise<boolean>>();

  /** Joins what is under way in that region, or begins. */
  run(region: string, make: () => Promise<boolean>): Promise<boolean> {
    const known = this.#making.get(region);
    if (known !== undefined) return known;
    const making = make().finally(() => this.#making.delete(region));
    this.#making.set(region, making);
    return making;
  }
}

/**
 * Makes room in a pool that needs it: first what can be made again goes, then volumes and snapshots that are deleted, the oldest deletion
 * first, on the disk that needs it, each only after the least time that the settings promise (`volumes.retention_floor_hours`). It stops as soon as there is room.
 * Resolves to whether anything was freed.
 */
export function makeRoom(app: AppContext, region: string): Promise<boolean> {
  return app.room.run(region, async () => {
    const before = await app.node.poolCapacity(region);
    await app.node.makeRoom(region);
    await purgeEarly(app, region);
    const after = await app.node.poolCapacity(region);
    return after.freeBytes > before.freeBytes;
  });
}

/** Runs work that needs room in the pool; when it is refused for want of it, makes room and tries once more. */
export async function withRoom<T>(app: AppContext, region: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CaissonError && error.code === "STORAGE_FULL") && !hasErrorCode(error, "ENOSPC"))
      throw error;
    if (!(await makeRoom(app, region))) throw error;
    return work();
  }
}

async function purgeEarly(app: AppContext, region: string): Promise<void> {
  const { retentionMs, retentionFloorMs } = app.config.volumes;
  if (retentionFloorMs >= retentionMs) return;
  const beforeMs = Date.now() - retentionFloorMs;
  let full = await findFull(app, region);
  let after: Disk | null = null;
  // As far as there are any: those of other disks may come first.
  while (full.length > 0) {
    const { nodeId } = app.owner;
    const page = await app.store.disks.listDeleted(nodeId, region, beforeMs, { limit: PURGE_BATCH, after });
    after = page.at(-1) ?? null;
    if (after === null) return;
    const places = await app.node.placesOf(
      region,
      page.map(({ id }) => id),
    );
    for (const [index, deleted] of page.entries()) {
      // What lies elsewhere would make no room there.
      if (!full.includes(places[index]?.directory ?? "")) continue;
      await purgeOneEarly(app, deleted);
      full = await findFull(app, region);
      if (full.length === 0) return;
    }
  }
}

/** The directories of the disks that need room. */
async function findFull(app: AppContext, region: string): Promise<readonly string[]> {
  const { disks } = await app.node.poolCapacity(region);
  return disks.filter(diskNeedsRoom).map(({ directory }) => directory);
}

async function purgeOneEarly(app: AppContext, { id, slug, kind }: Disk): Promise<void> {
  const disk = await app.store.disks.beginPurgeOf(app.owner, id);
  if (disk === null) return;
  const isPurged = await purgeDisk(app, disk, { reason: "pool-full" }).catch((error: unknown) => {
    app.logger.error({ err: error, id, slug }, "cannot purge a disk early; the next purge tries again");
    return false;
  });
  if (isPurged) app.logger.warn({ id, slug, kind }, "purged a deleted disk early: the pool needs room");
}
