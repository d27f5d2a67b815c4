import { randomInt } from "node:crypto";
import { settleAll } from "@caisson/linux";
import { CaissonError, classOfId } from "@caisson/model";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import type { Disk } from "../records.ts";
import { rebuildIfRestored } from "../restored/volume-rebuild.ts";
import { takeSnapshot } from "../volumes/snapshot-create.ts";
import { thinVolume } from "./volume-thin.ts";

/** Volumes that one look takes: the next one is soon. */
const BATCH = 200;
const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 10 * 60_000;
const POOL_AWAY = "It could not be made, because the replicated pool cannot be used; it is tried again";

/**
 * Makes the snapshots that schedules of a node's volumes want. Those of a class follow one another, and the classes stand side by side, so that a replicated pool that does not answer holds up no local volume. Never rejects because of one of
 * them: what fails is recorded in its volume, and tried again after a pause that doubles and varies.
 */
export async function takeScheduled(
  app: AppContext,
  { owner, regions }: ConnectedNode,
  signal: AbortSignal,
): Promise<void> {
  const due = await app.store.disks.listScheduled(owner.nodeId, [...regions.keys()], Date.now(), BATCH);
  const classes = Map.groupBy(due, ({ id }) => classOfId(id));
  await settleAll([
    takeInTurn(app, classes.get("local") ?? [], signal),
    takeReplicated(app, classes.get("replicated") ?? [], signal),
  ]);
}

/** Where the pool cannot be used for one of them, it is not asked for the others, each of which might wait as long for it. They are due later, so that they take no place in the next batch. */
async function takeReplicated(app: AppContext, volumes: readonly Disk[], signal: AbortSignal): Promise<void> {
  const left = await takeInTurn(app, volumes, signal, isUnavailable);
  for (const volume of left) await app.store.disks.failScheduled(volume.id, POOL_AWAY, Date.now() + pauseOf(volume));
}

/** Until `isLast` says of an error that it is the same for the others, which are returned. */
async function takeInTurn(
  app: AppContext,
  volumes: readonly Disk[],
  signal: AbortSignal,
  isLast: (error: unknown) => boolean = () => false,
): Promise<readonly Disk[]> {
  for (const [index, volume] of volumes.entries()) {
    if (signal.aborted) return [];
    try {
      if (await takeOne(app, volume, signal)) await thinVolume(app, volume.id);
    } catch (error) {
      if (signal.aborted) return [];
      await recordFailure(app, volume, error);
      if (isLast(error)) return volumes.slice(index + 1);
    }
  }
  return [];
}

function isUnavailable(error: unknown): boolean {
  return error instanceof CaissonError && error.code === "DISK_UNAVAILABLE";
}

/** As a snapshot that somebody asks for, but that it makes no room at the cost of what others have deleted. False: there is nothing to do any more. */
async function takeOne(app: AppContext, { id }: Disk, signal: AbortSignal): Promise<boolean> {
  const found = await app.store.disks.get(id);
  if (found?.state !== "ready") return false;
  await rebuildIfRestored(app, found, signal);
  return app.locks.run(id, async () => {
    const volume = await app.store.disks.get(id);
    if (volume?.state !== "ready" || volume.schedule === null) return false;
    const isReplicated = app.snapshotStore !== null;
    const made = await takeSnapshot<"not-due">(app, null, volume, {
      name: "snapshot-schedule",
      ...{ slug: slugAt(new Date()), labels: {}, isRoomMade: false },
      reserve: async (snapshot) =>
        (await app.store.disks.reserveScheduled(snapshot, isReplicated)) ? null : ("not-due" as const),
    });
    if (made === "not-due") return false;
    if (isReplicated) app.replicator.wake();
    return true;
  });
}

async function recordFailure(app: AppContext, volume: Disk, error: unknown): Promise<void> {
  const { id, slug } = volume;
  const pauseMs = pauseOf(volume);
  app.metrics.countBackgroundError("schedule");
  app.logger.error({ err: error, id, slug, pauseMs }, "cannot make the snapshot of a schedule; it is tried again");
  // Tenants read it: what is not made for them stays in the log.
  const message = error instanceof CaissonError ? error.message : "It could not be made: the server's log says why";
  await app.store.disks.failScheduled(id, message, Date.now() + pauseMs);
}

/** How long a volume waits whose snapshot was not made. */
function pauseOf({ schedule }: Disk): number {
  const longestMs = Math.min(FIRST_PAUSE_MS * 2 ** (schedule?.attempts ?? 0), LONGEST_PAUSE_MS);
  return Math.round(longestMs * (0.5 + Math.random() / 2));
}

/** For example `auto-20261127-175200-0f3a`, in UTC. */
function slugAt(at: Date): string {
  const [day = "", time = ""] = at.toISOString().replaceAll(/[-:]/g, "").split("T");
  return `auto-${day}-${time.slice(0, 6)}-${randomInt(0x10000).toString(16).padStart(4, "0")}`;
}
