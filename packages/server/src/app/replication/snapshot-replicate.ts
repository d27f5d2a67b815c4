import type { Disk } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { takeOverIfLost } from "../disks/disk-take-over.ts";
import { auditEvent } from "../operations/audit-event.ts";

/**
 * Asks for a snapshot to be brought into the snapshot store, whatever the policy says. One transaction: from then on it is tried in the background until it succeeds, also by the next start. A failed one is tried at
 * once; one that is there already changes nothing. Throws `NOT_SUPPORTED` without a store.
 */
export async function replicateSnapshot(app: AppContext, actor: Actor, idOrSlug: string): Promise<Disk> {
  const snapshot = await requireDisk(app, actor, "snapshot", idOrSlug);
  if (snapshot.replication.state !== "replicated") app.nodes.of(await takeOverIfLost(app, snapshot));
  if (app.snapshotStore === null)
    throw new CaissonError(
      "NOT_SUPPORTED",
      `Cannot replicate snapshot ${JSON.stringify(snapshot.slug)}: this server has no snapshot store. Set snapshot_store.url in its settings`,
    );
  const event = auditEvent(actor, "snapshot-replicate", snapshot, { slug: snapshot.slug });
  const asked = await step("snapshot-replicate.commit", () =>
    app.store.disks.requestReplication(snapshot.id, Date.now(), event),
  );
  app.replicator.wake();
  return asked;
}
