import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { SnapshotStore, Upload } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import type { Disk } from "../records.ts";
import { headerOf } from "../transfers/snapshot-header.ts";
import { REPLICA_WAIT_MS } from "./replica-round.ts";

/**
 * Brings a snapshot into the snapshot store.
 *
 * The row is the intent: it is `uploading`, or `failed`, until this succeeds. One that is in the store already, whole, is only committed. Otherwise come the chunks, the manifest, and the commit: the row is `replicated`, with its event, which says nothing before the store has confirmed
 * every part. Whatever cuts it off, the next try counts on what is there. When the snapshot was purged meanwhile, the manifest is deleted again, in the background until that succeeds; one whose server ends before that stays in the store.
 */
export async function uploadSnapshot(
  app: AppContext,
  snapshotStore: SnapshotStore,
  snapshot: Disk,
  signal: AbortSignal,
): Promise<void> {
  const { id, slug, organizationId } = snapshot;
  const there = await step("snapshot-upload.find", () => snapshotStore.find({ organizationId, id }, signal));
  const result = there ?? (await uploadImage(app, snapshotStore, snapshot, signal));
  await app.locks.run(id, async () => {
    const event = auditEvent(null, "snapshot-replicated", snapshot, { slug, ...result });
    try {
      await step("snapshot-upload.commit", () => app.store.disks.finishReplication(id, result, Date.now(), event));
    } catch (error) {
      if (error instanceof CaissonError && error.code === "SNAPSHOT_NOT_FOUND")
        void app.persistent.untilDone({ work: "snapshot-upload: delete what was purged", objectId: id }, () =>
          snapshotStore.delete({ organizationId, id }, AbortSignal.timeout(REPLICA_WAIT_MS)),
        );
      throw error;
    }
  });
  if (there === null) {
    app.metrics.replicationRead.inc(result.readBytes);
    app.metrics.replicationSent.inc(result.sentBytes);
  }
  app.logger.info({ id, slug, ...result }, "a snapshot is in the snapshot store");
}

async function uploadImage(
  app: AppContext,
  snapshotStore: SnapshotStore,
  snapshot: Disk,
  signal: AbortSignal,
): Promise<Upload> {
  const { id, organizationId, region } = snapshot;
  await using image = await app.nodes.of(snapshot).node.exportDisk({ region, id });
  const header = headerOf(snapshot, image.sizeBytes, image.fileSystem);
  return await snapshotStore.upload({ organizationId, id }, header, image, signal);
}
