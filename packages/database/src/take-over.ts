import { CaissonError } from "@caisson/model";
import { beingTakenOver, diskLost, diskNotFound } from "./refusals.ts";
import type { Disk, NodeRecord, Owner } from "./store.ts";

/** `lost`: its node is lost, and is shut out. `draining`: its node lives, drains and lets go of it. `unsettled`: its node has not taken it over yet, and another one is to. */
export type TakeOverFrom = "lost" | "draining" | "unsettled";

/**
 * Whether a node may take a disk over from another one, by their rows. Both have said that they use the same shared pool in the disk's region. Of a lost one the latest run is over, since its lease ran out or since it was shut out before; one that
 * drains is live, and the disk is a volume that nobody has (`isFree`); nothing can have used one that is unsettled. Returns the openings of the pool that may still write to the image. Throws `NODE_UNAVAILABLE`, `*_NOT_FOUND` and `DISK_LOST`.
 */
export function requireTakeOver(
  disk: Disk,
  { from, isFree }: { readonly from: TakeOverFrom; readonly isFree: boolean },
  former: NodeRecord | null,
  target: NodeRecord,
): readonly string[] {
  const { id, kind, region, state, lostAtMs, takenFrom, owner } = disk;
  if (state === "creating") throw diskNotFound(kind, id);
  if (lostAtMs !== null) throw diskLost(disk);
  const refuse = (reason: string) =>
    new CaissonError("NODE_UNAVAILABLE", `Cannot take ${id} over from node ${owner.nodeId}: ${reason}`);
  if (former === null) throw refuse("there is no such node");
  const isOver = !former.isLive || former.isShutOut;
  if (from === "lost" && !isOver)
    throw refuse(`its lease holds until ${new Date(former.leaseUntilMs).toISOString()}. Try again after that`);
  // A snapshot may be the root of sandboxes there.
  const isLetGo = isFree && kind === "volume" && disk.growToBytes === null && state !== "purging";
  if (from === "draining" && (isOver || !former.isDraining || !isLetGo))
    throw refuse("only a live node that drains lets go of a disk, and of a volume that nobody has");
  if (from === "unsettled" && takenFrom.length === 0) throw refuse("it has taken it over by now. Try again");
  const [theirs, ours] = [former.sharedPools[region], target.sharedPools[region]];
  if (theirs === undefined)
    throw refuse(
      `it has not said which pool it shares in region ${region}. Start the node again, or another machine in its place`,
    );
  if (ours?.identity !== theirs.identity)
    throw refuse(
      `its pool is ${theirs.identity}, and that of node ${target.id} ${ours === undefined ? "is not known" : `is ${ours.identity}`}`,
    );
  return from === "lost" ? [...new Set([...takenFrom, theirs.instance])] : takenFrom;
}

/** Throws `NODE_UNAVAILABLE` for a disk that another node has by now, or that its node has not taken over yet. `action`: what cannot be done. */
export function requireOwn(action: string, { id, owner, takenFrom }: Disk, { nodeId }: Owner): void {
  if (owner.nodeId !== nodeId)
    throw new CaissonError(
      "NODE_UNAVAILABLE",
      `Cannot ${action} ${id} on node ${nodeId}: node ${owner.nodeId} has it by now. Try again`,
    );
  if (takenFrom.length > 0) throw beingTakenOver(id, nodeId);
}
