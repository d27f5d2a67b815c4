import type { AppContext } from "../app/context.ts";
import { purgeDisk } from "../app/disk-purge.ts";
import { measureUsage } from "../app/usage.ts";

const PURGE_INTERVAL_MS = 60_000;
const IDEMPOTENCY_MS = 24 * 3_600_000;
const EVENT_RETENTION_MS = 90 * 24 * 3_600_000;

/** Frees the storage of volumes and snapshots whose retention is over, and forgets what is only kept for a time. */
export async function purgeExpired(app: AppContext): Promise<void> {
  const nowMs = Date.now();
  for (const disk of await app.store.disks.beginPurge(nowMs)) {
    if (!app.regions.has(disk.region)) continue;
    await purgeDisk(app, disk).catch((error: unknown) =>
      app.logger.error({ err: error, id: disk.id, slug: disk.slug }, "cannot purge a disk; the next purge tries again"),
    );
  }
  await app.store.disks.expireIdempotencyKeys(nowMs - IDEMPOTENCY_MS);
  await app.store.sandboxes.expire(nowMs - app.config.sandboxes.historyMs);
  await app.store.events.expire(nowMs - EVENT_RETENTION_MS);
}

/** Measures the volumes that sandboxes write to, without what was deleted in them. */
export async function measureAttached(app: AppContext): Promise<void> {
  for (const region of app.regions.values()) {
    const volumeIds = region.volumes.ids();
    for (const volumeId of volumeIds) await region.volumes.trim(volumeId);
    await measureUsage(app, region.name, volumeIds);
  }
}

/** Runs the jobs until the returned function is called; it resolves when none runs any more. A failing job is logged and tried again. */
export function startPeriodicJobs(app: AppContext): () => Promise<void> {
  const jobs = [
    { name: "purge", intervalMs: PURGE_INTERVAL_MS, run: purgeExpired },
    { name: "usage", intervalMs: app.config.volumes.usageIntervalMs, run: measureAttached },
  ].map(({ name, intervalMs, run }) => {
    let current: Promise<void> | null = null;
    const timer = setInterval(() => {
      current ??= run(app)
        .catch((error: unknown) => app.logger.error({ err: error, job: name }, "a background job failed"))
        .finally(() => {
          current = null;
        });
    }, intervalMs);
    return async () => {
      clearInterval(timer);
      await current;
    };
  });
  return async () => {
    await Promise.all(jobs.map((stop) => stop()));
  };
}
