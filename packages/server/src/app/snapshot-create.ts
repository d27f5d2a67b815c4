import type { Disk, NewDisk } from "@caisson/database";
import { step } from "@caisson/linux";
import { type Labels, newId, requireLabels, requireSlug } from "@caisson/model";
import { type Actor, type AppContext, recordEvent, requireDisk, requireRegion } from "./context.ts";
import { measureDisk } from "./disk-measure.ts";
import type { Region } from "./region.ts";
import { measureUsage } from "./usage.ts";
import { findEarlier, hashRequest } from "./volume-create.ts";

export interface CreateSnapshotInput {
  readonly slug: string;
  readonly labels?: Labels | null;
}

/**
 * Takes a snapshot of a volume, attached or not. The row comes first, in state `creating`; then the image is sealed; then the row becomes `ready`.
 * A writable attached volume is frozen for the instant of the copy only: it is thawed before the copy is made durable, and the acknowledgement
 * comes after that. A crash in between leaves a `creating` row, which the next start undoes; the freeze goes with the mount.
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
    const region = requireRegion(app, volume.region);
    const isWritable = region.volumes.isWritable(volumeId);
    const snapshot: NewDisk = {
      kind: "snapshot",
      id: newId("snp", volume.region),
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
    const { existingId } = await step("snapshot-create.reserve", () => app.store.disks.reserve(snapshot, key));
    if (existingId !== null) return findEarlier(app, existingId);
    try {
      await seal(region, volumeId, snapshot.id);
      const usage = await measureDisk(region, snapshot, volume);
      const values = { consistency: snapshot.consistency, ...usage };
      const record = await step("snapshot-create.commit", () => app.store.disks.commit(snapshot.id, values));
      await measureUsage(app, [volumeId]);
      await recordEvent(app, actor, "snapshot-create", record, { slug, volumeId, consistency: record.consistency });
      return record;
    } catch (error) {
      await region.storage.deleteImage(snapshot.id);
      await app.store.disks.forget(snapshot.id);
      throw error;
    }
  });
}

async function seal(region: Region, volumeId: string, snapshotId: string): Promise<void> {
  await using frozen = await step("snapshot-create.freeze", () => region.volumes.freeze(volumeId));
  await step("snapshot-create.seal", () => region.storage.sealImage(volumeId, snapshotId, async () => frozen?.thaw()));
}
