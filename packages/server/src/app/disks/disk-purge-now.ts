import type { Disk, DiskKind } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { purgeDisk } from "./disk-purge.ts";
import { takeOverIfLost } from "./disk-take-over.ts";

/**
 * Frees the storage of a deleted volume or snapshot, by id, without waiting for its retention. Resolves to `purged` when the space is free, and to
 * `purging` while a sandbox still runs from it, or when its node was lost meanwhile: the space is freed within a minute of that sandbox's end, or of the node's return. Purging already is success.
 */
export async function purgeDiskNow(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  id: string,
): Promise<"purged" | "purging"> {
  const found = await app.store.disks.get(id);
  const isOwnNow = found !== null && found.kind === kind && found.organizationId === actor.organization.id;
  const disk = isOwnNow && found.state === "deleted" ? await takeOverIfLost(app, found) : found;
  const isOwn = disk !== null && disk.kind === kind && disk.organizationId === actor.organization.id;
  if (!isOwn || (disk.state !== "deleted" && disk.state !== "purging")) throw notDeleted(kind, id, disk, isOwn);
  const purging = await app.locks.run(id, () =>
    disk.lostAtMs === null
      ? app.store.disks.beginPurgeOf(app.nodes.of(disk).owner, id)
      : app.store.disks.beginPurgeLostOf(id),
  );
  // Restored or purged in between.
  if (purging === null) throw notDeleted(kind, id, null, false);
  try {
    return (await purgeDisk(app, purging, { actor, reason: "asked" })) ? "purged" : "purging";
  } catch (error) {
    // The intent is in the row: the next purge of the node goes on.
    if (error instanceof CaissonError && error.code === "NODE_UNAVAILABLE") return "purging";
    throw error;
  }
}

function notDeleted(kind: DiskKind, id: string, disk: Disk | null, isOwn: boolean): CaissonError {
  const advice =
    isOwn && disk?.state === "ready"
      ? "it is not deleted. Delete it first, or delete it with now=true"
      : `list the deleted ones, and give an id of them`;
  return new CaissonError(
    kind === "volume" ? "VOLUME_NOT_FOUND" : "SNAPSHOT_NOT_FOUND",
    `Cannot purge ${kind} ${JSON.stringify(id.slice(0, 64))}: ${advice}`,
  );
}
