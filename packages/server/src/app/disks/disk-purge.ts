import type { Disk } from "@caisson/database";
import { step } from "@caisson/linux";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { ReplicaRound } from "../replication/replica-round.ts";
import { settleTakeOver } from "./disk-take-over.ts";

/**
 * Frees the storage of a disk in state `purging`, which is the intent: of a deleted one whose retention is over, or of a creation that failed. First
 * the image goes, then a snapshot's copy in the snapshot store, then the row, with the event. Whatever cuts that off leaves the row, and the next purge or start goes on. Returns false while
 * a sandbox still runs from the disk, or the snapshot store is away that has a copy of it. `actor` and `reason` are for the trail, where it is not the end of the retention. `replicas`: the round of purges that this is part of; otherwise it is
 * one of its own.
 */
export async function purgeDisk(
  app: AppContext,
  disk: Disk,
  {
    actor = null,
    reason = "retention-over",
    replicas = new ReplicaRound(),
  }: { readonly actor?: Actor | null; readonly reason?: string; readonly replicas?: ReplicaRound } = {},
): Promise<boolean> {
  // What a node had that was forgotten is gone with it.
  const node = disk.lostAtMs === null ? app.nodes.of({ ...disk, takenFrom: [] }).node : null;
  return app.locks.run(disk.id, async () => {
    const { id, region } = disk;
    if (node !== null) await settleTakeOver(app, disk);
    const outcome = node === null ? "deleted" : await step("disk-purge.delete", () => node.deleteDisk({ id, region }));
    if (outcome === "in-use") return false;
    if (!(await replicas.delete(app, disk))) return false;
    // What was never there for its owner has no end that the trail could tell of.
    const wasThere = disk.deletedAtMs !== null || (disk.lostAtMs !== null && disk.purgeAtMs !== null);
    const event = !wasThere ? null : auditEvent(actor, `${disk.kind}-purge`, disk, { slug: disk.slug, reason });
    await step("disk-purge.commit", () => app.store.disks.forget(disk.id, event));
    return true;
  });
}
