import { step } from "@caisson/linux";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";

/** Deletes from the snapshot store what no snapshot needs. An organization that cannot be swept keeps the others waiting for nothing. */
export async function sweepStore(app: AppContext, snapshotStore: SnapshotStore, signal: AbortSignal): Promise<void> {
  for (const { id, slug } of await app.store.organizations.list()) {
    try {
      const swept = await step("snapshot-sweep", () => snapshotStore.sweep(id, Date.now, signal));
      if (swept.deletedChunks > 0)
        app.logger.info({ organization: slug, ...swept }, "deleted from the snapshot store what no snapshot has");
    } catch (error) {
      if (signal.aborted) return;
      app.metrics.countBackgroundError("snapshot-sweep");
      app.logger.error({ err: error, organization: slug }, "cannot sweep the snapshot store; it is tried again");
    }
  }
  try {
    const swept = await step("backup-sweep", () => snapshotStore.backups.sweep(Date.now, signal));
    if (swept.deletedChunks > 0) app.logger.info(swept, "deleted from the snapshot store what no backup has");
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
