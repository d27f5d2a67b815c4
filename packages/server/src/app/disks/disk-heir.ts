import type { Disk, NodeRecord } from "@caisson/database";
import { CaissonError, classOfId } from "@caisson/model";
import type { AppContext } from "../context.ts";
import { parseNodeAddress } from "../nodes/node-address.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";

/** A disk, and the row of its node. */
export interface PlacedDisk {
  readonly disk: Disk;
  readonly former: NodeRecord;
}

export interface HeirWish {
  /** Something else that is used with it is there: that node or none. Default: any. */
  readonly near?: ConnectedNode | null;
  /** It is to be used by a new sandbox: none that drains. Default: one that drains only if there is no other. */
  readonly isForSandbox?: boolean;
}

/** Throws `NODE_UNAVAILABLE`, with what to do, also for administrators alone, where no other node can take the disk over. */
export async function requireHeir(app: AppContext, disk: Disk): Promise<void> {
  const rows = await app.store.nodes.list();
  const former = rows.find(({ id }) => id === disk.owner.nodeId);
  if (former === undefined || (await findHeir(app, [{ disk, former }], rows)) !== null) return;
  throw noHeir(app, [{ disk, former }], rows, {}, true);
}

/**
 * The node that can take over all of these, which a new sandbox is to use together; `near` as in `HeirWish`. Throws `NODE_UNAVAILABLE`, with what to do, and nothing has moved then: what no one node can have as a whole stays
 * where it is.
 */
export async function requireCommonHeir(
  app: AppContext,
  disks: readonly Disk[],
  near: ConnectedNode | null,
): Promise<ConnectedNode> {
  const rows = await app.store.nodes.list();
  const placed = disks.map((disk) => {
    const former = rows.find(({ id }) => id === disk.owner.nodeId);
    if (former === undefined) throw app.nodes.unavailable(disk);
    requireOver(app, disk, former);
    return { disk, former };
  });
  const heir = await chooseHeir(app, placed, rows, { near, isForSandbox: true });
  // Where they all leave one node, the first that moves asks it.
  const [one, ...others] = new Map(placed.map((each) => [each.former.id, each])).values();
  if (one !== undefined && others.length > 0)
    await Promise.all([one, ...others].map(({ disk, former }) => confirmOver(app, disk, former)));
  return heir;
}

/** Throws `NODE_UNAVAILABLE` unless the node's latest run is over: shut out before, or its lease ran out and this server has found out that it cannot reach it. */
export function requireOver(app: AppContext, disk: Disk, former: NodeRecord): void {
  const { id, address, isLive, leaseUntilMs } = former;
  if (isEnded(former)) return;
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

/** The last before the node is shut out, after `requireOver`: throws `NODE_UNAVAILABLE` where it answers this server again, as after an outage of this server's own network. */
export async function confirmOver(app: AppContext, disk: Disk, former: NodeRecord): Promise<void> {
  const place = parseNodeAddress(former.address);
  if (isEnded(former) || place === null || (await app.nodes.confirmAway(former.id, place))) return;
  throw new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot use ${disk.id} yet: its node ${former.id} answers again. Try again in a moment`,
  );
}

/** Nothing begins any more on a node that was given up, which needed the same as a takeover, and no server tries to connect to it any more. */
function isEnded({ isShutOut, lostAtMs }: NodeRecord): boolean {
  return isShutOut || lostAtMs !== null;
}

/**
 * Of those that can be reached and can use the pool now: one that does not drain before others, then the one whose sandboxes have the least memory. Null: there is none that can have all of these. Each is asked before anything moves to it, because a
 * row keeps what a node has said once: its settings, its version or its network may be others now, and what has moved to it waits for it.
 */
export async function findHeir(
  app: AppContext,
  placed: readonly PlacedDisk[],
  rows: readonly NodeRecord[],
  { near = null, isForSandbox = false }: HeirWish = {},
): Promise<ConnectedNode | null> {
  const ranked = heirsOf(placed, rows)
    .filter(({ id, isDraining }) => (near === null || id === near.owner.nodeId) && !(isForSandbox && isDraining))
    .filter(({ id }) => canReach(app, id, placed))
    .toSorted(
      (a, b) =>
        Number(a.isDraining) - Number(b.isDraining) ||
        a.reserved.memoryMib - b.reserved.memoryMib ||
        (a.id < b.id ? -1 : 1),
    );
  for (const { id } of ranked) {
    const at = app.nodes.get(id);
    if (at !== null && (await canUse(app, at, placed))) return at;
  }
  return null;
}

/** As `findHeir`. Throws `NODE_UNAVAILABLE`, with what to do, where there is none. */
export async function chooseHeir(
  app: AppContext,
  placed: readonly PlacedDisk[],
  rows: readonly NodeRecord[],
  wish: HeirWish = {},
): Promise<ConnectedNode> {
  const heir = await findHeir(app, placed, rows, wish);
  if (heir === null) throw noHeir(app, placed, rows, wish);
  return heir;
}

/** How other nodes that are not lost have the disk's pool open: nobody shuts one of them out because of a single disk. */
export async function livingOpenings(app: AppContext, { id, region, owner }: Disk): Promise<readonly string[]> {
  if (classOfId(id) === "local") return [];
  const rows = await app.store.nodes.list();
  return rows
    .filter((row) => row.id !== owner.nodeId && !isEnded(row) && (row.isLive || app.nodes.get(row.id) !== null))
    .flatMap(({ sharedPools }) => sharedPools[region]?.instance ?? []);
}

/** Whether a node has the pools of all of these open now, and they answer it. An image that is not there is an answer, too: it would be there for no other node. */
async function canUse(
  app: AppContext,
  { owner, node }: ConnectedNode,
  placed: readonly PlacedDisk[],
): Promise<boolean> {
  try {
    const { regions } = await node.describe();
    for (const one of placed) {
      const { id, region } = one.disk;
      if (regions.find(({ name }) => name === region)?.shared?.identity !== poolOf(one)) return false;
      await node.getDisk({ region, id });
    }
    return true;
  } catch (error) {
    app.logger.warn(
      { err: error, nodeId: owner.nodeId },
      "a node cannot take a disk over, because it cannot use its pool",
    );
    return false;
  }
}

/** Other nodes, and what pools are, are told to administrators alone. */
function noHeir(
  app: AppContext,
  placed: readonly PlacedDisk[],
  rows: readonly NodeRecord[],
  { near = null, isForSandbox = false }: HeirWish,
  isForAdministrators = false,
): CaissonError {
  const having = heirsOf(placed, rows);
  // The one that stands in the way, where one alone does.
  const { disk, former } =
    placed.find((one) => poolOf(one) === undefined) ??
    placed.find((one) => heirsOf([one], rows).length === 0) ??
    (placed[0] as PlacedDisk);
  const { id, region } = disk;
  const ids = having.map((row) => row.id);
  const reason = (): string => {
    if (poolOf({ disk, former }) === undefined)
      return `its replicated pool is none that nodes share, as a directory is, or node ${former.id} has not said which it is: start that node again, or another machine in its place, with that pool`;
    if (heirsOf([{ disk, former }], rows).length === 0)
      return `no other node of region ${region} has its pool: let one join whose caisson.toml names it under "[replicated]", or start node ${former.id} again`;
    if (having.length === 0) return "none has the pools of all that it is to be used with: use it without that";
    if (near !== null && !ids.includes(near.owner.nodeId))
      return `what it is to be used with is on node ${near.owner.nodeId}, which does not have its pool: use it without that, or try again when node ${former.id} is back`;
    const wanted = having.filter((row) => near === null || row.id === near.owner.nodeId);
    if (!wanted.some((row) => canReach(app, row.id, placed)))
      return "those that have its pool cannot be reached either: try again later";
    if (isForSandbox && wanted.every((row) => row.isDraining || !canReach(app, row.id, placed)))
      return 'those that have its pool are being drained, and take no new sandbox. An administrator ends that with "caisson nodes undrain"';
    return "those that have its pool cannot use it now: try again later";
  };
  const details = { id, nodeId: former.id, pool: poolOf({ disk, former }), heirs: ids };
  app.logger.warn(details, "no other node can take a disk over from one that is lost");
  const forAdministrators = ` (its pool: ${details.pool ?? "not known"}; other nodes with it: ${ids.join(", ") || "none"})`;
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot use ${id}: its node ${former.id} is lost, and no other one can take it over, because ${reason()}. What it holds is not lost${isForAdministrators ? forAdministrators : ""}`,
  );
}

function canReach(app: AppContext, nodeId: string, placed: readonly PlacedDisk[]): boolean {
  return placed.every(({ disk: { region } }) => app.nodes.find({ owner: { nodeId }, region }) !== null);
}

function poolOf({ disk, former }: PlacedDisk): string | undefined {
  return former.sharedPools[disk.region]?.identity;
}

/** The other nodes that have said the pools of all of these, also those that cannot be reached. */
function heirsOf(placed: readonly PlacedDisk[], rows: readonly NodeRecord[]): readonly NodeRecord[] {
  return rows.filter((row) =>
    placed.every((one) => {
      const identity = poolOf(one);
      return (
        row.id !== one.former.id && identity !== undefined && row.sharedPools[one.disk.region]?.identity === identity
      );
    }),
  );
}
