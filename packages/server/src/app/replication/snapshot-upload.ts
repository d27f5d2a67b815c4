import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ImageDifference, SnapshotStore, SourceImage, Upload } from "@caisson/snapshot-store";
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

/** Reads what may differ from an earlier snapshot in the store, where its node can tell that; all of it elsewhere. */
async function uploadImage(
  app: AppContext,
  snapshotStore: SnapshotStore,
  snapshot: Disk,
  signal: AbortSignal,
): Promise<Upload> {
  const { id, organizationId, region } = snapshot;
  const { node } = app.nodes.of(snapshot);
  const base = await findBase(app, snapshot);
  await using image = await node.exportDisk({ region, id, base });
  const { sizeBytes, fileSystem, changed } = image;
  const header = headerOf(snapshot, sizeBytes, fileSystem);
  const upload = (whole: SourceImage, difference?: ImageDifference) =>
    snapshotStore.upload({ organizationId, id }, header, whole, signal, difference);
  if (base === null || changed === undefined) return await upload(image);
  const whole = {
    sizeBytes,
    async *pieces() {
      await using all = await node.exportDisk({ region, id });
      yield* all.pieces();
    },
  };
  return await upload(whole, { sizeBytes, baseId: base, changed, pieces: () => image.pieces() });
}

/** The snapshot in the store that has most in common with this one: the one before it of the same volume, or else what that was made from. Null: there is none on its node. */
async function findBase(app: AppContext, { id, owner, organizationId, baseSnapshot }: Disk): Promise<string | null> {
  const before = await app.store.disks.replicaBefore(id);
  if (before !== null) return before.id;
  const origin = baseSnapshot === null ? null : await app.store.disks.get(baseSnapshot.id);
  const isFit =
    origin?.state === "ready" &&
    origin.replication.state === "replicated" &&
    origin.owner.nodeId === owner.nodeId &&
    origin.organizationId === organizationId;
  return isFit ? origin.id : null;
}
