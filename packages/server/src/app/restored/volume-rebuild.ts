import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../context.ts";
import { measureFully } from "../disks/disk-measure.ts";
import { withRoom } from "../disks/room.ts";
import { auditEvent } from "../operations/audit-event.ts";
import type { Disk } from "../records.ts";
import { fetchIfLost } from "../replication/snapshot-fetch.ts";

/**
 * Makes the image of a volume that a restore has brought back without one, of its newest snapshot, before it is used; otherwise does nothing. The snapshot is fetched and verified first, then cloned under the volume's id, and
 * only then the volume counts as there; whatever cuts this off, the next use goes on. Uses that come together wait for one making. The caller does not hold the volume's lock; the fetch ends with `signal` when nobody else waits for it.
 */
export async function rebuildIfRestored(
  app: AppContext,
  volume: Disk,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  const { id, region, slug } = volume;
  if (app.restored.snapshotOf(id) === null) return;
  await app.locks.run(id, async () => {
    const snapshotId = app.restored.snapshotOf(id);
    if (snapshotId === null) return;
    const found = await app.store.disks.get(id);
    // Purged since: nothing is to be made.
    if (found === null || found.state === "purging") return app.restored.settle(id);
    const at = app.nodes.of(found);
    if ((await at.node.getDisk({ region, id })) === null) {
      const snapshot = await app.store.disks.get(snapshotId);
      if (snapshot?.state !== "ready")
        throw new CaissonError(
          "SNAPSHOT_NOT_FOUND",
          `Cannot bring volume ${JSON.stringify(slug)} back: the snapshot ${snapshotId} that it was restored from has been deleted. Restore that, or delete the volume`,
        );
      await fetchIfLost(app, snapshot, signal);
      const source = { imageId: snapshotId, sizeBytes: snapshot.capacityBytes };
      const disk = { region, id, sizeBytes: found.capacityBytes, source, inodes: null };
      await step("volume-rebuild.image", () => withRoom(app, at, region, () => at.node.createDisk(disk)));
    }
    await app.store.events.record(auditEvent(null, "volume-rebuild", found, { slug, snapshotId }));
    await app.restored.settle(id);
    await measureFully(app, found).catch((error: unknown) =>
      app.logger.warn({ err: error, id }, "cannot measure a disk"),
    );
    app.logger.info({ id, slug, snapshotId }, "a restored volume is there again");
  });
}

/** Brings back all that a restore has left to the server, one after the other. One that cannot be brought back keeps the others waiting for nothing, and is tried again with the next look. */
export async function rebuildRestored(app: AppContext, signal: AbortSignal): Promise<void> {
  let failure: unknown = null;
  for (const id of app.restored.pending()) {
    if (signal.aborted) return;
    try {
      const disk = await app.store.disks.get(id);
      if (disk?.kind === "volume") await rebuildIfRestored(app, disk, signal);
      else {
        if (disk?.state === "ready") await fetchIfLost(app, disk, signal);
        await app.restored.settle(id);
      }
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure !== null) throw failure;
}
