import type { Disk, NewDisk } from "@caisson/database";
import { hasErrorCode, runOperation, Step } from "@caisson/linux";
import { type Labels, newId, requireLabels, requireSlug } from "@caisson/model";
import { type Actor, type AppContext, requireDisk, requireRegionOf } from "../context.ts";
import { measureDisk } from "../disks/disk-measure.ts";
import { withRoom } from "../disks/room.ts";
import { measureUsage } from "../disks/usage.ts";
import { auditEvent } from "../operations/audit-event.ts";
import type { Region } from "../region.ts";
import { findEarlier, hashRequest } from "./volume-create.ts";

export interface CreateSnapshotInput {
  readonly slug: string;
  readonly labels?: Labels | null;
}

/**
 * Takes a snapshot of a volume, attached or not.
 *
 * Intent: the row in `creating`, which takes the slug. Then the image is sealed: a writable attached volume is frozen for an instant of that only, and
 * thawed before the copy is made durable. Commit: the row is `ready`, with its event, which is the acknowledgement.
 *
 * A failure undoes as that of a volume's creation does; the volume goes on untouched. A crash leaves a row that the next start undoes; the freeze
 * goes with the mount.
 */
export async function createSnapshot(
  app: AppContext,
  actor: Actor,
  volumeIdOrSlug: string,
  input: CreateSnapshotInput,
  idempotencyKey?: string,
): Promise<Disk> {
  const slug = requireSlug(input.slug);
  const labels = requireLabels(input.labels ?? {});
  const { id: volumeId } = await requireDisk(app, actor, "volume", volumeIdOrSlug);
  const key =
    idempotencyKey === undefined
      ? undefined
      : { key: idempotencyKey, requestHash: hashRequest("snapshot", { ...input, volumeId }) };
  return app.locks.run(volumeId, async () => {
    const volume = await requireDisk(app, actor, "volume", volumeId);
    const region = requireRegionOf(app, volume);
    const isWritable = region.volumes.isWritable(volumeId);
    const snapshot: NewDisk = {
      kind: "snapshot",
      id: newId("snp", volume.region),
      owner: app.owner,
      organizationId: volume.organizationId,
      slug,
      region: volume.region,
      capacityBytes: volume.capacityBytes,
      isBootable: volume.isBootable,
      consistency: isWritable ? "frozen" : "clean",
      parent: { kind: "volume", id: volume.id, slug: volume.slug },
      baseSnapshot: volume.baseSnapshot,
      baseImageId: volume.baseImageId,
      labels,
      createdAtMs: Date.now(),
    };
    const record = await runOperation(app, {
      name: "snapshot-create",
      objectId: snapshot.id,
      intent: {
        async run() {
          const { existingId } = await app.store.disks.reserve(snapshot, key);
          return existingId === null ? null : findEarlier(app, existingId);
        },
        undo: () => app.store.disks.forget(snapshot.id, null),
      },
      steps: [
        new Step("seal", {
          run: () => withRoom(app, region, () => seal(app, region, volumeId, snapshot.id)),
          undo: () => region.storage.deleteImage(snapshot.id),
        }),
      ],
      commit: {
        async run() {
          const { consistency } = snapshot;
          const event = auditEvent(actor, "snapshot-create", snapshot, { slug, volumeId, consistency });
          const usage = await measureDisk(region, snapshot, volume);
          return app.store.disks.commit(snapshot.id, { consistency, ...usage }, event);
        },
        withdraw: () => app.store.disks.withdraw(snapshot.id),
      },
    });
    await measureUsage(app, [volumeId]);
    return record;
  });
}

async function seal({ logger }: AppContext, region: Region, volumeId: string, snapshotId: string): Promise<void> {
  const startMs = performance.now();
  const live = region.volumes.live(volumeId);
  const { frozenMs } = await region.storage.sealImage(volumeId, snapshotId, { live }).catch((error: unknown) => {
    // Its writers may have been made to wait for room meanwhile: then this says so.
    if (hasErrorCode(error, "EBUSY")) region.volumes.live(volumeId);
    throw error;
  });
  logger.debug({ volumeId, snapshotId, frozenMs, tookMs: performance.now() - startMs }, "copied a volume");
}
