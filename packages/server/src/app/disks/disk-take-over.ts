import type { Disk, NodeRecord, SandboxRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, classOfId } from "@caisson/model";
import type { AppContext } from "../context.ts";
import { parseNodeAddress } from "../nodes/node-address.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { endSandbox } from "../sandboxes/sandbox-end.ts";
import { settleGrow } from "../volumes/grow-settle.ts";

/**
 * The disk, on a node that can be used: a replicated one whose node is lost goes to another node that has the same shared pool, `near` if that is one, since it is about to be used. All others stay as they are, also
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
    return settleTakeOver(app, moved);
  });
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
  for (const disk of await listShared(app, nodeId)) {
    if (disk.kind !== "volume" || (disk.state !== "ready" && disk.state !== "deleted")) continue;
    await app.locks
      .run(disk.id, () => moveFromDraining(app, disk))
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

async function moveFromDraining(app: AppContext, disk: Disk): Promise<void> {
  const rows = await app.store.nodes.list();
  const former = rows.find(({ id }) => id === disk.owner.nodeId);
  if (former === undefined || !former.isDraining) return;
  // One that drains would only let go of it again.
  const staying = rows.filter(({ isDraining }) => !isDraining);
  const target = findHeir(app, disk.region, former, staying);
  if (target === null) return;
  const toNodeId = target.owner.nodeId;
  const detail = { slug: disk.slug, fromNodeId: former.id, toNodeId, isDraining: true };
  const events = {
    disk: auditEvent(null, "volume-take-over", disk, detail),
    sandbox: (sandbox: SandboxRecord) => auditEvent(null, "sandbox-end", sandbox, { reason: "node-lost" }),
  };
  await step("node-drain.volume", () =>
    app.store.disks.takeOver(disk.id, target.owner, Date.now(), events, "draining"),
  );
}

/** Throws `NODE_UNAVAILABLE`, with what to do, where no other node can take the disk over. */
export async function requireHeir(app: AppContext, disk: Disk): Promise<void> {
  const rows = await app.store.nodes.list();
  const former = rows.find(({ id }) => id === disk.owner.nodeId);
  if (former !== undefined) chooseHeir(app, disk, former, rows);
}

/** Whether another node may have to take it over, or is at that. */
function mayMove(app: AppContext, disk: Disk): boolean {
  if (classOfId(disk.id) === "local" || disk.lostAtMs !== null) return false;
  return disk.takenFrom.length > 0 || app.nodes.get(disk.owner.nodeId) === null;
}

async function move(app: AppContext, disk: Disk, near: ConnectedNode | null): Promise<Disk> {
  const { id, kind, slug, owner } = disk;
  const rows = await app.store.nodes.list();
  const former = rows.find((row) => row.id === owner.nodeId);
  if (former === undefined || app.nodes.get(former.id) !== null) throw app.nodes.unavailable(disk);
  requireOver(app, disk, former);
  const target = chooseHeir(app, disk, former, rows, near);
  const toNodeId = target.owner.nodeId;
  const holders = kind === "volume" ? await app.store.sandboxes.holders(id) : [];
  const taken = await step("disk-take-over.intent", () =>
    app.store.disks.takeOver(id, target.owner, Date.now(), {
      disk: auditEvent(null, `${kind}-take-over`, disk, { slug, fromNodeId: former.id, toNodeId }),
      sandbox: (sandbox) => auditEvent(null, "sandbox-end", sandbox, { reason: "node-lost" }),
    }),
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

/** Throws `NODE_UNAVAILABLE` unless the node's latest run is over: shut out before, or its lease ran out and this server has found out that it cannot reach it. */
function requireOver(app: AppContext, disk: Disk, former: NodeRecord): void {
  const { id, address, isLive, isShutOut, leaseUntilMs, lostAtMs } = former;
  // Nothing begins any more on a node that was given up, which needed the same, and no server tries to connect to it any more.
  if (isShutOut || lostAtMs !== null) return;
  const { message } = app.nodes.unavailable(disk);
  if (isLive)
    throw new CaissonError(
      "NODE_UNAVAILABLE",
      `${message} (${new Date(leaseUntilMs).toISOString()}, if it does not come back before)`,
    );
  // The node of a server's own host has no port: it is over with that server.
  const place = parseNodeAddress(address);
  if (place !== null && !app.nodes.isKnownAway(id, place))
    throw new CaissonError(
      "NODE_UNAVAILABLE",
      `${message}. This server has not found out yet whether it can reach the node, because it has just begun to lead or to connect: try again in a minute`,
    );
}

/** The other nodes that have said the same pool, also those that cannot be reached. */
function heirsOf(former: NodeRecord, rows: readonly NodeRecord[], region: string): readonly NodeRecord[] {
  const pool = former.sharedPools[region];
  return rows.filter(
    (row) => row.id !== former.id && pool !== undefined && row.sharedPools[region]?.identity === pool.identity,
  );
}

/** Of those that can be reached: the one that is asked for, then one that does not drain, then the one whose sandboxes have the least memory. Null: there is none. */
function findHeir(
  app: AppContext,
  region: string,
  former: NodeRecord,
  rows: readonly NodeRecord[],
  near: ConnectedNode | null = null,
): ConnectedNode | null {
  const rank = (row: NodeRecord): number => (row.id === near?.owner.nodeId ? 0 : row.isDraining ? 2 : 1);
  const [best] = heirsOf(former, rows, region)
    .filter((row) => app.nodes.find({ owner: { nodeId: row.id }, region }) !== null)
    .toSorted((a, b) => rank(a) - rank(b) || a.reserved.memoryMib - b.reserved.memoryMib || (a.id < b.id ? -1 : 1));
  return best === undefined ? null : app.nodes.get(best.id);
}

function chooseHeir(
  app: AppContext,
  { id, region }: Disk,
  former: NodeRecord,
  rows: readonly NodeRecord[],
  near: ConnectedNode | null = null,
): ConnectedNode {
  const heir = findHeir(app, region, former, rows, near);
  if (heir !== null) return heir;
  const pool = former.sharedPools[region];
  const having = heirsOf(former, rows, region);
  const reason =
    pool === undefined
      ? `its replicated pool is none that nodes share, as a directory is, or node ${former.id} has not said which it is: start that node again, or another machine in its place, with that pool`
      : having.length > 0
        ? `those that have its pool ${pool.identity} cannot be reached either (${having.map((row) => row.id).join(", ")}): try again later`
        : `no other node of region ${region} has its pool ${pool.identity}: let one join whose caisson.toml names it under "[replicated]", or start node ${former.id} again`;
  throw new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot use ${id}: its node ${former.id} is lost, and no other one can take it over, because ${reason}. What it holds is not lost`,
  );
}

/** A file system that is damaged keeps nobody from having the volume: mounting it tries again and tells its user. What may still be written to is not had. */
async function recoverVolume(app: AppContext, volume: Disk): Promise<void> {
  const { node } = app.nodes.of({ ...volume, takenFrom: [] });
  try {
    await step("disk-take-over.recover", () => node.recoverDisk(volume));
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
