import { CaissonError } from "@caisson/model";
import { diskLost, diskNotFound } from "./refusals.ts";
import type { Disk, NodeRecord } from "./store.ts";

/**
 * Whether a node may take a disk over from another one, by their rows: the latest run of that one is over, since its lease ran out or since it was shut out before, and both have said that they use the same shared pool in the
 * disk's region. Returns the openings of the pool that may still write to the image. Throws `NODE_UNAVAILABLE`, `*_NOT_FOUND` and `DISK_LOST`.
 */
export function requireTakeOver(disk: Disk, former: NodeRecord | null, target: NodeRecord): readonly string[] {
  const { id, kind, region, state, lostAtMs, takenFrom, owner } = disk;
  if (state === "creating") throw diskNotFound(kind, id);
  if (lostAtMs !== null) throw diskLost(disk);
  const refuse = (reason: string) =>
    new CaissonError("NODE_UNAVAILABLE", `Cannot take ${id} over from node ${owner.nodeId}: ${reason}`);
  if (former === null) throw refuse("there is no such node");
  if (former.isLive && !former.isShutOut)
    throw refuse(`its lease holds until ${new Date(former.leaseUntilMs).toISOString()}. Try again after that`);
  const [from, to] = [former.sharedPools[region], target.sharedPools[region]];
  if (from === undefined)
    throw refuse(
      `it has not said which pool it shares in region ${region}. Start the node again, or another machine in its place`,
    );
  if (to?.identity !== from.identity)
    throw refuse(
      `its pool is ${from.identity}, and that of node ${target.id} ${to === undefined ? "is not known" : `is ${to.identity}`}`,
    );
  return [...new Set([...takenFrom, from.instance])];
}
