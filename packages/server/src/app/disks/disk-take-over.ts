import type { AuditEvent, Disk, TakeOverEvents } from "@caisson/database";
import { hasErrorCode, step } from "@caisson/linux";
import { CaissonError, classOfId } from "@caisson/model";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { endSandbox } from "../sandboxes/sandbox-end.ts";
import { settleGrow } from "../volumes/grow-settle.ts";
import { chooseHeir, confirmOver, findHeir, livingOpenings, requireOver } from "./disk-heir.ts";

/**
 * The disk, on a node that can be used: a replicated one whose node is lost goes to another node that has the same shared pool; where `near` is given, to that one or to none, since what it is used with is there. All others stay as they are, also
 * what is unavailable for another reason, which its use tells.
 *
 * Intent, which decides, and is one transaction: the row has its new node, the run that had it is shut out, and its sandboxes hold the disk no more. Then the new node shuts that run out of the pool, which from then on
 * refuses what it still sends; a volume's file system is brought into the state that a proper unmount leaves, and a growth that was under way is finished or forgotten. Commit: the row says so. Nothing uses the disk before.
 *
 * There is no way back. A failure, and a crash, leaves the row with whom its node has to shut out, and the next use goes on there, or on a third node when this one is lost, too.
 *
 * Throws `NODE_UNAVAILABLE`, with what to do, where its node may be alive or no other node can have it, and `DISK_UNAVAILABLE` while the pool has not shut the former one out.
 */
export async function takeOverIfLost(app: AppContext, disk: Disk, near: ConnectedNode | null = null): Promise<Disk> {
  if (!mayMove(app, disk)) return disk;
  return app.locks.run(disk.id, async () => {
    const current = await app.store.disks.get(disk.id);
    if (current === null || current.state === "creating" || !mayMove(app, current)) return current ?? disk;
    const moved = app.nodes.find(current) === null ? await move(app, current, near) : current;
    try {
      return await settleTakeOver(app, moved);
    } catch (error) {
      const passed = hasErrorCode(error, "DISK_UNAVAILABLE") ? await passOn(app, moved, near) : null;
      if (passed === null) throw error;
      return settleTakeOver(app, passed);
    }
  });
}

/**
 * Gives a disk that its node could not take over, because the pool does not answer that node, to another one whom it answers. Nothing has used it there, so nobody more is shut out than was to be. Null: there is no such node.
 */
async function passOn(app: AppContext, disk: Disk, near: ConnectedNode | null): Promise<Disk | null> {
  const rows = await app.store.nodes.list();
  const former = rows.find(({ id }) => id === disk.owner.nodeId);
  const target = former === undefined ? null : await findHeir(app, [{ disk, former }], rows, { near });
  if (target === null) return null;
  const [fromNodeId, toNodeId] = [disk.owner.nodeId, target.owner.nodeId];
  app.logger.warn({ id: disk.id, fromNodeId, toNodeId }, "a node cannot take a disk over: another one does");
  const detail = { slug: disk.slug, fromNodeId, toNodeId, isUnsettled: true };
  return step("disk-take-over.pass-on", () =>
    app.store.disks.takeOver(disk.id, target.owner, Date.now(), eventsOf(disk, detail), "unsettled"),
  );
}

function eventsOf(disk: Disk, detail: AuditEvent["detail"]): TakeOverEvents {
  return {
    disk: auditEvent(null, `${disk.kind}-take-over`, disk, detail),
    sandbox: (sandbox) => auditEvent(null, "sandbox-end", sandbox, { reason: "node-lost" }),
  };
}

/** Goes on with a disk that its node is taking over. The caller holds the disk's lock. Others stay as they are. */
export async function settleTakeOver(app: AppContext, disk: Disk): Promise<Disk> {
  if (disk.takenFrom.length === 0) return disk;
  const { node } = app.nodes.of({ ...disk, takenFrom: [] });
  for (const instance of disk.takenFrom) await step("disk-take-over.fence", () => node.fence(disk.region, instance));
  if (disk.kind === "volume" && disk.state === "ready") await recoverVolume(app, disk);
  await step("disk-take-over.commit", () => app.store.disks.settleTakeOver(disk));
  app.logger.info({ id: disk.id, nodeId: disk.owner.nodeId }, "took a disk over from a node that is lost");
  const settled = (await app.store.disks.get(disk.id)) ?? disk;
  if (settled.growToBytes !== null) await finishGrow(app, settled);
  return (await app.store.disks.get(disk.id)) ?? settled;
}

/** What a node has in pools that it shares with others, in any state. */
export async function listShared(app: AppContext, nodeId: string): Promise<readonly Disk[]> {
  const node = await app.store.nodes.get(nodeId);
  const shared: Disk[] = [];
  for (const { id, region } of await app.store.disks.listIds(nodeId)) {
    if (classOfId(id) === "local" || node?.sharedPools[region] === undefined) continue;
    const disk = await app.store.disks.get(id);
    if (disk !== null && disk.lostAtMs === null) shared.push(disk);
  }
  return shared;
}

/** Gives a disk of a node that was given up to another one. Who had it is shut out now, or before the disk is used. Throws as `takeOverIfLost` does where no other node can have it. */
export async function handOver(app: AppContext, { id, owner }: Disk): Promise<void> {
  await app.locks.run(id, async () => {
    const disk = await app.store.disks.get(id);
    // A use has been first.
    if (disk === null || disk.owner.nodeId !== owner.nodeId) return;
    const moved = await move(app, disk, null);
    await settleTakeOver(app, moved).catch((error: unknown) =>
      app.logger.error({ err: error, id }, "cannot shut a lost node out yet: the next use of the disk tries it again"),
    );
  });
}

/**
 * Gives replicated volumes of a node that drains, and that nobody has, to other nodes with the same shared pool. Each is one transaction, and nobody is shut out, because the node has let go of them. What cannot go, or not now, stays.
 */
export async function letGo(app: AppContext, nodeId: string): Promise<void> {
  const heirs: Heirs = new Map();
  for (const disk of await listShared(app, nodeId)) {
    if (disk.kind !== "volume" || (disk.state !== "ready" && disk.state !== "deleted")) continue;
    await app.locks
      .run(disk.id, () => moveFromDraining(app, disk, heirs))
      .catch((error: unknown) => {
        if (!(error instanceof CaissonError)) throw error;
        app.logger.debug({ id: disk.id, nodeId, reason: error.message }, "a volume stays on a node that drains");
      });
  }
}

/** The same of every node that drains, for volumes whose sandboxes have ended meanwhile. */
export async function letGoOfDraining(app: AppContext): Promise<void> {
  for (const { id, isDraining, lostAtMs } of await app.store.nodes.list())
    if (isDraining && lostAtMs === null) await letGo(app, id);
}

/** By region, since one pool is all that differs: where nothing answers, finding one takes long. Null: there is none. */
type Heirs = Map<string, ConnectedNode | null>;

async function moveFromDraining(app: AppContext, disk: Disk, heirs: Heirs): Promise<void> {
  const rows = await app.store.nodes.list();
  const former = rows.find(({ id }) => id === disk.owner.nodeId);
  if (former === undefined || !former.isDraining) return;
  // One that drains would only let go of it again.
  const staying = rows.filter(({ isDraining }) => !isDraining);
  if (disk.growToBytes !== null || (await app.store.sandboxes.holders(disk.id)).length > 0) return;
  const known = heirs.get(disk.region);
  const target = known === undefined ? await findHeir(app, [{ disk, former }], staying) : known;
  heirs.set(disk.region, target);
  if (target === null) return;
  const toNodeId = target.owner.nodeId;
  const detail = { slug: disk.slug, fromNodeId: former.id, toNodeId, isDraining: true };
  await step("node-drain.volume", () =>
    app.store.disks.takeOver(disk.id, target.owner, Date.now(), eventsOf(disk, detail), "draining"),
  );
}

/** Whether its use moves it, if that may be. */
export function isMoving(app: AppContext, { id, lostAtMs, owner }: Disk): boolean {
  return classOfId(id) !== "local" && lostAtMs === null && app.nodes.get(owner.nodeId) === null;
}

/** Whether another node may have to take it over, or is at that. */
function mayMove(app: AppContext, disk: Disk): boolean {
  return isMoving(app, disk) || (disk.takenFrom.length > 0 && disk.lostAtMs === null);
}

async function move(app: AppContext, disk: Disk, near: ConnectedNode | null): Promise<Disk> {
  const { id, kind, slug, owner } = disk;
  const rows = await app.store.nodes.list();
  const former = rows.find((row) => row.id === owner.nodeId);
  if (former === undefined || app.nodes.get(former.id) !== null) throw app.nodes.unavailable(disk);
  requireOver(app, disk, former);
  const target = await chooseHeir(app, [{ disk, former }], rows, { near });
  await confirmOver(app, disk, former);
  const toNodeId = target.owner.nodeId;
  const holders = kind === "volume" ? await app.store.sandboxes.holders(id) : [];
  const events = eventsOf(disk, { slug, fromNodeId: former.id, toNodeId });
  const taken = await step("disk-take-over.intent", () =>
    app.store.disks.takeOver(id, target.owner, Date.now(), events),
  );
  app.nodes.shutOut({ nodeId: former.id, generation: former.generation });
  app.logger.warn(
    { id, slug, fromNodeId: former.id, toNodeId },
    "a node that is lost has a disk no more: another one takes it over",
  );
  for (const { sandboxId } of holders) {
    const live = app.live.get(sandboxId);
    // Its row has ended already, unless it has something else that waits for its node.
    if (live !== undefined) void endSandbox(app, live, "node-lost");
  }
  return taken;
}

/** A file system that is damaged keeps nobody from having the volume: mounting it tries again and tells its user. What may still be written to is not had. */
async function recoverVolume(app: AppContext, volume: Disk): Promise<void> {
  const { node } = app.nodes.of({ ...volume, takenFrom: [] });
  try {
    const living = await livingOpenings(app, volume);
    await step("disk-take-over.recover", () => node.recoverDisk(volume, living));
  } catch (error) {
    if (!(error instanceof CaissonError && error.code === "VOLUME_DAMAGED")) throw error;
    app.logger.error(
      { err: error, volumeId: volume.id, slug: volume.slug },
      "cannot recover the file system of a volume",
    );
  }
}

async function finishGrow(app: AppContext, volume: Disk): Promise<void> {
  const { id, capacityBytes, growToBytes } = volume;
  const event = auditEvent(null, "volume-grow", volume, { fromBytes: capacityBytes, capacityBytes: growToBytes });
  if ((await settleGrow(app, id, event)) === null) await app.store.disks.cancelGrow(id);
}
