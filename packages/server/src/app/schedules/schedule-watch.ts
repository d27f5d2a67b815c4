import type { AppContext } from "../context.ts";

/** Tells the metrics how the schedules of all volumes do. */
export async function watchSchedules({ store, metrics, snapshotStore }: AppContext): Promise<void> {
  const nowMs = Date.now();
  const { volumes, failing, late, oldestReplicatedAtMs } = await store.disks.scheduleTotals(nowMs);
  metrics.schedules.set({ state: "all" }, volumes);
  metrics.schedules.set({ state: "failing" }, failing);
  // A gauge without labels that was reset says 0: no series is what there is then.
  metrics.replicatedStateAge.remove();
  if (snapshotStore === null) return;
  metrics.schedules.set({ state: "late" }, late);
  if (oldestReplicatedAtMs !== null) metrics.replicatedStateAge.set(Math.max(0, nowMs - oldestReplicatedAtMs) / 1000);
}
