import type { Disk } from "@caisson/database";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const KEEP_MS = 30 * DAY_MS;

/**
 * Which snapshots of a schedule are not kept any more: all of the last hour are, then the last of each hour for a day, then the last of each day (UTC) for 30 days. While there is the volume, its newest one stays whatever its
 * age, and so do the newest that is replicated and, for a restore, the newest that was replicated when the newest backup of the rows was made.
 *
 * `snapshots`: all of the volume, the oldest first. `backupAtMs`: when that backup was made; null: nobody knows, so that what is replicated stays; infinite: none is needed.
 */
export function superfluousSnapshots(
  snapshots: readonly Disk[],
  {
    nowMs,
    backupAtMs,
    isVolumeGone,
  }: { readonly nowMs: number; readonly backupAtMs: number | null; readonly isVolumeGone: boolean },
): readonly Disk[] {
  const newestFirst = snapshots.toReversed();
  const isReplicated = ({ replication }: Disk): boolean => replication.state === "replicated";
  const needed = isVolumeGone
    ? []
    : [
        newestFirst.find(({ isAutomatic }) => isAutomatic),
        newestFirst.find(isReplicated),
        newestFirst.find((one) => isReplicated(one) && (one.replication.atMs ?? 0) <= (backupAtMs ?? 0)),
      ];
  const seen = new Set<string>();
  return newestFirst.filter((snapshot) => {
    if (!snapshot.isAutomatic) return false;
    const { createdAtMs } = snapshot;
    const ageMs = nowMs - createdAtMs;
    if (ageMs <= HOUR_MS) return false;
    const [unit, unitMs] = ageMs <= DAY_MS ? (["hour", HOUR_MS] as const) : (["day", DAY_MS] as const);
    const turn = `${unit} ${Math.floor(createdAtMs / unitMs)}`;
    const isLast = !seen.has(turn);
    seen.add(turn);
    if (isLast && ageMs <= KEEP_MS) return false;
    const isKeptForRestore = !isVolumeGone && backupAtMs === null && isReplicated(snapshot);
    return !isKeptForRestore && !needed.includes(snapshot);
  });
}
