import type { ListedBackup } from "@caisson/snapshot-store";

const DAY_MS = 24 * 3_600_000;

/**
 * Which automatic backups are not kept any more: all of the last day are, then the last of each day (UTC) until they are `keepMs` old. Those that somebody asked for stay until they are deleted, and the newest of all stays
 * whatever its age. `backups`: the newest first.
 */
export function superfluousBackups(
  backups: readonly ListedBackup[],
  keepMs: number,
  nowMs: number,
): readonly ListedBackup[] {
  const days = new Set<number>();
  return backups.filter(({ atMs, isAutomatic }, index) => {
    if (!isAutomatic || index === 0 || nowMs - atMs <= DAY_MS) return false;
    const day = Math.floor(atMs / DAY_MS);
    const isLastOfDay = !days.has(day);
    days.add(day);
    return !isLastOfDay || nowMs - atMs > keepMs;
  });
}
