import { step } from "@caisson/linux";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import { backUp } from "./backup-create.ts";
import { superfluousBackups } from "./backup-thinning.ts";

/** Makes a backup when the newest one is as old as the settings allow, and forgets those that are not kept any more. What fails is tried again: forgetting with the next look, making one after pauses that grow. */
export async function backUpWhenDue(app: AppContext, snapshotStore: SnapshotStore, signal: AbortSignal): Promise<void> {
  const { snapshotStore: settings } = app.config;
  const { backups } = app;
  if (settings?.backupEveryMs == null) return;
  try {
    backups.lastAtMs ??= (await snapshotStore.backups.list(signal))[0]?.atMs ?? null;
    if (backups.isDue(settings.backupEveryMs)) await backUp(app, snapshotStore, { isAutomatic: true }, signal);
    if (!backups.isToBeThinned) return;
    const all = await snapshotStore.backups.list(signal);
    for (const { id } of superfluousBackups(all, settings.backupKeepMs, Date.now()))
      await step("backup-thin", () => snapshotStore.backups.delete(id, signal));
    backups.isToBeThinned = false;
  } catch (error) {
    // The server ends: nothing has failed.
    if (!signal.aborted) throw error;
  }
}
