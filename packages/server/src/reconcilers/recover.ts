import type { Disk, SandboxRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { classOfId, type StopReason } from "@caisson/model";
import type { AppContext } from "../app/context.ts";
import { purgeDisk } from "../app/disks/disk-purge.ts";
import { settleTakeOver } from "../app/disks/disk-take-over.ts";
import type { ConnectedNode } from "../app/nodes/node-directory.ts";
import { auditEvent } from "../app/operations/audit-event.ts";
import { ReplicaRound } from "../app/replication/replica-round.ts";
import { endSandbox } from "../app/sandboxes/sandbox-end.ts";
import { releaseSandbox } from "../app/sandboxes/sandbox-release.ts";
import { settleGrow } from "../app/volumes/grow-settle.ts";

/**
 * Settles what earlier runs of a node left, when a run of it has begun; what belongs to other nodes is theirs. In this order: sandboxes first, since their end frees volumes; then intents,
 * which are undone (creations) or finished (purges, grows); then each pool is compared with the rows. The kernel has already dropped the earlier
 * run's processes, mounts and devices. Every part can be repeated, so a crash in here is settled by the next start.
 *
 * Sandboxes end with `reason`. `left`: further disks whose change nobody is at any more. What cannot be settled keeps nobody else away: it is reported and tried again in the background. What lies in a
 * region that the settings do not name any more stays as it is until they do. The snapshot store, which may be away, is asked nothing: what has a copy there is left to the next purge. `lost`: the connection to the node is gone, and no end that needs it is waited for any more.
 */
export async function recover(
  app: AppContext,
  connected: ConnectedNode,
  reason: StopReason,
  lost: AbortSignal,
  left: readonly Disk[] = [],
): Promise<void> {
  const { owner, regions } = connected;
  for (const sandbox of await app.store.sandboxes.listLeft(owner))
    await settle(app, connected, "end a sandbox of the last run", sandbox, () =>
      endSandboxOfLastRun(app, sandbox, reason, lost),
    );
  const unsettled = [...(await app.store.disks.listUnsettled(owner)), ...left];
  for (const disk of new Map(unsettled.map((disk) => [disk.id, disk])).values())
    await settle(app, connected, "settle an unfinished change", disk, () => settleDisk(app, disk));
  const purging = new Set(unsettled.filter(({ state }) => state === "purging").map(({ id }) => id));
  for (const region of regions.keys()) {
    await comparePool(app, connected, region, purging).catch((error: unknown) =>
      app.logger.error({ err: error, region, nodeId: owner.nodeId }, "cannot compare the pool with the database"),
    );
  }
}

/** Tries once, and goes on trying in the background after a failure, as long as the connection stands: the next one finds what is left. */
async function settle(
  app: AppContext,
  connected: ConnectedNode,
  work: string,
  thing: Disk | SandboxRecord,
  attempt: () => Promise<void>,
): Promise<void> {
  const { id, region } = thing;
  const { owner, regions } = connected;
  if (!regions.has(region)) {
    app.logger.error({ id, region }, "left as it is: the settings do not name its region any more");
    return;
  }
  try {
    await attempt();
  } catch (error) {
    app.logger.error({ err: error, id, region }, `cannot ${work}: it is tried again while the server runs`);
    void app.persistent.untilDone({ work, objectId: id }, async () => {
      if (app.nodes.get(owner.nodeId) === connected) await attempt();
    });
  }
}

async function endSandboxOfLastRun(
  app: AppContext,
  sandbox: SandboxRecord,
  reason: StopReason,
  lost: AbortSignal,
): Promise<void> {
  const { id } = sandbox;
  // This server may have had it when the node was lost: then its end is that of any other, and goes on by itself. It may need a run of the node that begins only when this one is left.
  await orAborted(lost, app.live.cancel(id, reason));
  lost.throwIfAborted();
  const live = app.live.get(id);
  const ending = live === undefined ? app.live.ending(id) : endSandbox(app, live, reason);
  if (ending !== undefined) {
    await orAborted(lost, ending);
    return;
  }
  await releaseSandbox(app, sandbox);
  await step("recover.sandbox", () =>
    app.store.sandboxes.finish(id, reason, Date.now(), auditEvent(null, "sandbox-end", sandbox, { reason })),
  );
  app.metrics.countEnd(reason);
  app.logger.info({ sandboxId: id }, "sandbox ended with the run of the node that had it");
}

async function orAborted(signal: AbortSignal, work: Promise<unknown>): Promise<void> {
  const { promise: aborted, resolve } = Promise.withResolvers<void>();
  const onAbort = () => resolve();
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) resolve();
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function settleDisk(app: AppContext, disk: Disk): Promise<void> {
  const { id, slug, growToBytes } = disk;
  if (disk.state === "creating") {
    // The same order as where a creation fails while the server runs: what was committed meanwhile stands.
    if ((await app.store.disks.withdraw(id)) !== null) return;
    const withdrawn = await app.store.disks.get(id);
    if (withdrawn !== null) await purgeDisk(app, withdrawn, { replicas: ReplicaRound.silent() });
    app.logger.info({ id, slug }, "undid an unfinished creation");
  } else if (disk.state === "purging") {
    await purgeDisk(app, disk, { replicas: ReplicaRound.silent() });
  } else {
    const event = auditEvent(null, "volume-grow", disk, { fromBytes: disk.capacityBytes, capacityBytes: growToBytes });
    const isGrown = await app.locks.run(id, async () => {
      // What its node is taking over has that done first, of which the growth is part.
      await settleTakeOver(app, (await app.store.disks.get(id)) ?? disk);
      if ((await settleGrow(app, id, event)) !== null) return true;
      await app.store.disks.cancelGrow(id);
      return false;
    });
    const outcome = isGrown ? "finished growing a volume" : "forgot a grow that had not begun";
    app.logger.info({ id, slug, capacityBytes: growToBytes }, outcome);
  }
}

/** Compares a pool with the database: what cannot be explained is reported and kept. `purging`: their images are gone, and rows stay until the snapshot store has let go of its copies. */
async function comparePool(
  app: AppContext,
  { owner, node }: ConnectedNode,
  region: string,
  purging: ReadonlySet<string>,
): Promise<void> {
  const rows = (await app.store.disks.listIds(owner.nodeId))
    .filter((disk) => disk.region === region)
    .map(({ id }) => id);
  const known = new Set(rows);
  const present = new Set(await node.listDisks(region));
  for (const id of present.difference(known)) {
    // A replicated pool holds what other nodes and regions have, too.
    if (classOfId(id) === "replicated" && (await app.store.disks.get(id)) !== null) continue;
    app.logger.warn({ id, region }, "the pool holds an image that the database does not know; it is kept");
  }
  const missing = [...known.difference(present).difference(purging)];
  const places = await node.placesOf(region, missing);
  for (const [index, id] of missing.entries()) {
    const problem = places[index]?.problem ?? null;
    if (problem !== null) app.logger.error({ id, region, problem }, "a volume or snapshot cannot be used");
    else app.logger.error({ id, region }, "the image of a volume or snapshot is missing from the pool");
  }
}
