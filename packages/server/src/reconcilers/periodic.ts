import type { Disk } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import { backUpWhenDue } from "../app/backups/backup-schedule.ts";
import type { AppContext } from "../app/context.ts";
import { measureFully } from "../app/disks/disk-measure.ts";
import { purgeDisk } from "../app/disks/disk-purge.ts";
import { letGoOfDraining } from "../app/disks/disk-take-over.ts";
import type { ConnectedNode } from "../app/nodes/node-directory.ts";
import { forgetLostNodes } from "../app/nodes/node-loss.ts";
import { PoolWatch } from "../app/pool/pool-watch.ts";
import { mayHaveReplica, ReplicaRound } from "../app/replication/replica-round.ts";
import { sweepStore } from "../app/replication/store-sweep.ts";
import { rebuildRestored } from "../app/restored/volume-rebuild.ts";
import { watchSchedules } from "../app/schedules/schedule-watch.ts";
import { takeScheduled } from "../app/schedules/scheduled-snapshots.ts";
import { thinVolumes } from "../app/schedules/volume-thin.ts";
import type { BackgroundWork } from "../metrics/metrics.ts";
import type { SnapshotStoreConfig } from "../snapshot-store/snapshot-store-config.ts";
import { tendAuthority } from "./authority-renewal.ts";
import { runEvery } from "./run-every.ts";

const PURGE_INTERVAL_MS = 60_000;
const SWEEP_INTERVAL_MS = 3_600_000;
/** What is due is found out that often, and what has failed is tried again. */
const BACKUP_LOOK_MS = 30_000;
/** What a restore has left is brought back one after the other; what fails is tried again so often. */
const RESTORE_LOOK_MS = 5_000;
/** Snapshots of schedules come at most that much later than they are due. */
const SCHEDULE_LOOK_MS = 1_000;
const SCHEDULE_WATCH_MS = 5_000;
const THIN_INTERVAL_MS = 3_600_000;
const AUTHORITY_INTERVAL_MS = 3_600_000;
const POOL_INTERVAL_MS = 1_000;
const IDEMPOTENCY_MS = 24 * 3_600_000;
/** Sizes may be this old; what others delete or overwrite changes what a disk at rest holds alone. */
const USAGE_AGE_MS = 10 * 60_000;
/** The most time, and the most disks, that one run measures. */
const MEASURE_BUDGET_MS = 2_000;
const MEASURE_BATCH = 500;
/** Until then one that comes too late is told so. */
const JOIN_TOKEN_HISTORY_MS = 24 * 3_600_000;
const EVENT_RETENTION_MS = 90 * 24 * 3_600_000;

/** Frees the storage of volumes and snapshots of a node whose retention is over: first of those that have no copy in the snapshot store, which may be slow or away. Begins no further one when `signal` is aborted. */
export async function purgeExpired(
  app: AppContext,
  { owner, regions }: ConnectedNode,
  { replicas = new ReplicaRound(), signal }: { readonly replicas?: ReplicaRound; readonly signal?: AbortSignal } = {},
): Promise<void> {
  // Those with a copy come in any order: one whose deletion always fails, and ends asking the store for this round, is not always the first.
  const rankOf = ({ replication }: Disk) => (mayHaveReplica(replication) ? 1 + Math.random() : 0);
  const ranked = (await app.store.disks.beginPurge(owner, Date.now())).map((disk) => ({ disk, rank: rankOf(disk) }));
  for (const { disk } of ranked.toSorted((one, other) => one.rank - other.rank)) {
    if (signal?.aborted === true) return;
    if (!regions.has(disk.region)) continue;
    await purgeDisk(app, disk, { replicas }).catch((error: unknown) =>
      app.logger.error({ err: error, id: disk.id, slug: disk.slug }, "cannot purge a disk; the next purge tries again"),
    );
  }
}

/** Frees what is left of disks whose node was forgotten: rows whose time has come, and copies in the snapshot store. */
export async function purgeLost(app: AppContext): Promise<void> {
  const replicas = new ReplicaRound();
  for (const disk of await app.store.disks.beginPurgeLost(Date.now()))
    await purgeDisk(app, disk, { replicas, reason: disk.deletedAtMs === null ? "node-lost" : "retention-over" }).catch(
      (error: unknown) =>
        app.logger.error({ err: error, id: disk.id, slug: disk.slug }, "cannot purge a lost disk; it is tried again"),
    );
}

/** Forgets rows that are only kept for a time. */
export async function expireRows(app: AppContext): Promise<void> {
  const nowMs = Date.now();
  await app.store.disks.expireIdempotencyKeys(nowMs - IDEMPOTENCY_MS);
  await app.store.sandboxes.expire(nowMs - app.config.sandboxes.historyMs);
  await app.store.joining.expireTokens(nowMs - JOIN_TOKEN_HISTORY_MS);
  await app.store.events.expire(nowMs - EVENT_RETENTION_MS);
}

/**
 * Measures what may have changed on a node: the volumes that sandboxes write to, without what was deleted in them, then the disks whose sizes are oldest,
 * as many as the time allows. A disk that cannot be measured keeps its sizes and does not keep the others waiting.
 */
export async function measureDisks(app: AppContext, { owner, node, regions }: ConnectedNode): Promise<void> {
  const startedMs = Date.now();
  const attempt = (id: string, measure: () => Promise<void>) =>
    measure().catch((error: unknown) => app.logger.warn({ err: error, id }, "cannot measure a disk"));
  for (const region of regions.keys()) {
    for (const volumeId of await node.listMountedDisks(region)) {
      await attempt(volumeId, async () => {
        await node.tendDisk({ region, id: volumeId });
        const volume = await app.store.disks.get(volumeId);
        if (volume !== null) await measureFully(app, volume);
      });
    }
  }
  const beforeMs = startedMs - USAGE_AGE_MS;
  const due = await app.store.disks.listUnmeasured(owner.nodeId, [...regions.keys()], beforeMs, MEASURE_BATCH);
  for (const disk of due) {
    if (Date.now() - startedMs > MEASURE_BUDGET_MS) return;
    await attempt(disk.id, () => measureFully(app, disk));
  }
}

/** Runs the jobs of one node until the returned function is called. */
export function startNodeJobs(app: AppContext, connected: ConnectedNode): () => Promise<void> {
  const watch = new PoolWatch(app, connected);
  const stopping = new AbortController();
  const { signal } = stopping;
  const purge = () => purgeExpired(app, connected, { replicas: new ReplicaRound(signal), signal });
  const stop = runJobs(app, [
    { name: "pool", intervalMs: POOL_INTERVAL_MS, run: () => watch.look() },
    { name: "purge", intervalMs: PURGE_INTERVAL_MS, run: purge },
    { name: "schedule", intervalMs: SCHEDULE_LOOK_MS, run: () => takeScheduled(app, connected, signal) },
    { name: "usage", intervalMs: app.config.volumes.usageIntervalMs, run: () => measureDisks(app, connected) },
  ]);
  return async () => {
    stopping.abort(new CaissonError("SHUTTING_DOWN", "The server is stopping"));
    await stop();
    watch[Symbol.dispose]();
  };
}

/** Runs the jobs that are of no node until the returned function is called. */
export function startRowJobs(app: AppContext): () => Promise<void> {
  const { snapshotStore, config } = app;
  const purge: Job = {
    name: "purge",
    intervalMs: PURGE_INTERVAL_MS,
    async run() {
      await forgetLostNodes(app);
      await letGoOfDraining(app);
      await purgeLost(app);
      await expireRows(app);
    },
  };
  const stopping = new AbortController();
  const { signal } = stopping;
  const jobs: Job[] = [
    purge,
    { name: "certificate", intervalMs: AUTHORITY_INTERVAL_MS, run: () => tendAuthority(app) },
    { name: "schedule", intervalMs: SCHEDULE_WATCH_MS, run: () => watchSchedules(app) },
    { name: "schedule", intervalMs: THIN_INTERVAL_MS, run: () => thinVolumes(app, signal) },
  ];
  if (snapshotStore !== null && config.snapshotStore !== null)
    jobs.push(...storeJobs(app, snapshotStore, config.snapshotStore, signal));
  const stop = runJobs(app, jobs);
  return () => {
    stopping.abort(new CaissonError("SHUTTING_DOWN", "The server is stopping"));
    return stop();
  };
}

/** Those of the snapshot store. */
function storeJobs(
  app: AppContext,
  snapshotStore: SnapshotStore,
  config: SnapshotStoreConfig,
  signal: AbortSignal,
): readonly Job[] {
  const intervalMs = Math.min(SWEEP_INTERVAL_MS, config.graceMs / 2);
  const sweep: Job = { name: "snapshot-sweep", intervalMs, run: () => sweepStore(app, snapshotStore, signal) };
  const everyMs = config.backupEveryMs;
  const backup: Job = {
    name: "backup",
    intervalMs: Math.min(BACKUP_LOOK_MS, everyMs ?? BACKUP_LOOK_MS),
    run: () => backUpWhenDue(app, snapshotStore, signal),
  };
  const restore: Job = { name: "restore", intervalMs: RESTORE_LOOK_MS, run: () => rebuildRestored(app, signal) };
  return [sweep, restore, ...(everyMs === null ? [] : [backup])];
}

interface Job {
  readonly name: BackgroundWork;
  readonly intervalMs: number;
  readonly run: () => Promise<void>;
}

/** The returned function resolves when none runs any more. A failing job is logged and tried again. */
function runJobs(app: AppContext, jobs: readonly Job[]): () => Promise<void> {
  const stops = jobs.map(({ name, intervalMs, run }) =>
    runEvery(intervalMs, () =>
      run().catch((error: unknown) => {
        app.metrics.countBackgroundError(name);
        app.logger.error({ err: error, job: name }, "a background job failed");
      }),
    ),
  );
  return async () => {
    await Promise.all(stops.map((stop) => stop()));
  };
}
