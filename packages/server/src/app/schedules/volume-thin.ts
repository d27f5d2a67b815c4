import { step } from "@caisson/linux";
import type { AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { superfluousSnapshots } from "./snapshot-thinning.ts";

const PAGE = 500;

/** Deletes what the schedule of a volume has made and does not keep any more; the next purge frees it, in the pool and in the snapshot store. What something needs stays, as the transaction that deletes it sees it. */
export async function thinVolume(app: AppContext, volumeId: string): Promise<void> {
  // It is to be made again, of one of them.
  if (app.restored.snapshotOf(volumeId) !== null) return;
  const snapshots = await app.store.disks.listSnapshots(volumeId);
  const isVolumeGone = (await app.store.disks.get(volumeId)) === null;
  const hasBackups = app.config.snapshotStore?.backupEveryMs != null;
  const backupAtMs = hasBackups ? app.backups.lastAtMs : Number.POSITIVE_INFINITY;
  for (const snapshot of superfluousSnapshots(snapshots, { nowMs: Date.now(), backupAtMs, isVolumeGone })) {
    const event = auditEvent(null, "snapshot-thin", snapshot, { slug: snapshot.slug, volumeId });
    await step("snapshot-thin.commit", () => app.store.disks.thin(snapshot.id, Date.now(), event));
  }
}

/** Does so for every volume, also those that have no schedule any more, or are gone. */
export async function thinVolumes(app: AppContext, signal: AbortSignal): Promise<void> {
  let after = "";
  for (;;) {
    const page = await app.store.disks.listThinnable(after, PAGE);
    for (const volumeId of page) {
      if (signal.aborted) return;
      await thinVolume(app, volumeId);
    }
    const last = page.at(-1);
    if (last === undefined) return;
    after = last;
  }
}
