import { step } from "@caisson/linux";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import { backUp } from "./backup-create.ts";
import { superfluousBackups } from "./backup-thinning.ts";

/** Makes a backup when the newest one is as old as the settings allow, and forgets those that are not kept any more. What fails is tried again with the next look. */
export async function backUpWhenDue(app: AppContext, snapshotStore: SnapshotStore, signal: AbortSignal): Promise<void> {
  const { snapshotStore: settings } = app.config;
  if (settings?.backupEveryMs == null) return;
  try {
    app.backups.lastAtMs ??= (await snapshotStore.backups.list(signal))[0]?.atMs ?? null;
    const { lastAtMs } = app.backups;
    if (lastAtMs !== null && Date.now() - lastAtMs < settings.backupEveryMs) return;
    await backUp(app, snapshotStore, { isAutomatic: true }, signal);
    const all = await snapshotStore.backups.list(signal);
    for (const { id } of superfluousBackups(all, settings.backupKeepMs, Date.now()))
      await step("backup-thin", () => snapshotStore.backups.delete(id, signal));
  } catch (error) {
    // The server ends: nothing has failed.
    if (!signal.aborted) throw error;
  }
}
