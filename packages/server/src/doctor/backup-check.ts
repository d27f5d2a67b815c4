import { parseBackupId } from "@caisson/snapshot-store";
import { problemOf } from "../app/backups/backup-list.ts";
import { openStoredObjects } from "../snapshot-store/open-snapshot-store.ts";
import type { SnapshotStoreConfig } from "../snapshot-store/snapshot-store-config.ts";
import { type Check, ok, warning } from "./check.ts";

const NAME = "backups";
const LOOK_MS = 10_000;

/** Looks at how old the newest backup in the snapshot store is. Sandboxes run without one, so that nothing here is worse than a warning. */
export async function checkBackups(config: SnapshotStoreConfig): Promise<Check> {
  try {
    await using objects = await openStoredObjects(config);
    const signal = AbortSignal.timeout(LOOK_MS);
    const keys = await Array.fromAsync(objects.list("backups/", signal), ({ key }) => key.slice("backups/".length));
    const times = keys.flatMap((id) => parseBackupId(id)?.atMs ?? []);
    return judgeBackups(times.length === 0 ? null : Math.max(...times), config.backupEveryMs, Date.now());
  } catch (error) {
    const { message, cause } = error as Error;
    const detail = cause instanceof Error ? ` (${cause.message})` : "";
    return warning(NAME, `${message}${detail}`, "Nobody knows how old the newest backup is: mend the snapshot store");
  }
}

export function judgeBackups(newestAtMs: number | null, everyMs: number | null, nowMs: number): Check {
  const problem = problemOf(newestAtMs, everyMs, nowMs);
  const newest = newestAtMs === null ? "none" : `the newest is of ${new Date(newestAtMs).toISOString()}`;
  if (problem === null) return ok(NAME, everyMs === null ? `${newest}; switched off in the settings` : newest);
  return warning(
    NAME,
    problem,
    "Start the server, which makes one within a minute; `caisson backup list` says why the last try failed",
  );
}
