import { notLatest } from "./refusals.ts";
import type {
  DiskPlace,
  NewSandbox,
  NodeCapacity,
  NodeObstacle,
  NodeRecord,
  Owner,
  ReserveOutcome,
  SandboxPlaces,
} from "./store.ts";

/** What a sandbox asks of a node, and what its organization has already. */
export interface Wish {
  readonly sandbox: NewSandbox;
  readonly places: SandboxPlaces;
  readonly own: Owner | null;
  readonly unreachable: readonly string[];
  readonly withoutRoot: readonly string[];
  /** How many sandboxes the organization has on all nodes. */
  readonly live: number;
  readonly organizations: number;
}

type Obstacle = NodeObstacle["obstacle"];

/** The nodes that can run the sandbox, the best first. Throws `NODE_UNAVAILABLE` when the caller's own one has begun again. */
export function fittingNodes(nodes: readonly NodeRecord[], wish: Wish): readonly NodeRecord[] {
  const { withoutRoot } = wish;
  const rank = ({ id }: NodeRecord): number => (withoutRoot.includes(id) ? 1 : 0);
  return nodes
    .filter((node) => obstacleOf(node, wish) === null)
    .toSorted(
      (a, b) =>
        rank(a) - rank(b) ||
        a.reserved.memoryMib - b.reserved.memoryMib ||
        a.reserved.places - b.reserved.places ||
        (a.id < b.id ? -1 : 1),
    );
}

/** Why none of the nodes can run the sandbox: what would help on the one that is nearest to it. */
export function refuseSandbox(nodes: readonly NodeRecord[], wish: Wish): ReserveOutcome {
  const behind = (obstacle: Obstacle) => nodes.filter((node) => obstacleOf(node, wish) === obstacle);
  const [memory, kept, full, draining] = [behind("memory"), behind("kept"), behind("full"), behind("draining")];
  const obstacles = nodes.flatMap((node) => {
    const obstacle = obstacleOf(node, wish);
    return obstacle === null ? [] : [{ nodeId: node.id, obstacle }];
  });
  obstacles.sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  if (memory.length > 0) return { kind: "memory", freeMib: Math.max(...memory.map(freeMemoryMib)), obstacles };
  const taken = [...kept, ...full];
  if (taken.length > 0)
    return {
      kind: "full",
      isKept: kept.length > 0,
      places: sum(taken.map(({ capacity }) => capacity.places)),
      kept: sum(taken.map((node) => keptPlaces(node.capacity, wish.places.kept))),
      obstacles,
    };
  return draining.length > 0 ? { kind: "draining", nodes: draining } : { kind: "unavailable", nodes };
}

/** The one node that has all disks; null: any may, because there are none. Another outcome when they are on several. */
export function nodeOfDisks(disks: readonly DiskPlace[]): string | null | ReserveOutcome {
  const nodeId = disks[0]?.nodeId ?? null;
  return disks.every((disk) => disk.nodeId === nodeId) ? nodeId : { kind: "scattered", disks };
}

/** How many places of the node must be free for the organization to get one. */
export function leastFreePlaces(
  { capacity }: NodeRecord,
  { places, live, organizations }: Pick<Wish, "places" | "live" | "organizations">,
): number {
  const areKept = live >= places.keptEach && organizations > 1;
  return 1 + (areKept ? keptPlaces(capacity, places.kept) : 0);
}

function obstacleOf(node: NodeRecord, wish: Wish): Obstacle | null {
  const { sandbox, own, unreachable } = wish;
  if (node.id === own?.nodeId && node.generation !== own.generation) throw notLatest(own, node.generation);
  if (!node.isLive && node.id !== own?.nodeId) return "unavailable";
  if (unreachable.includes(node.id)) return "unavailable";
  if (node.isDraining) return "draining";
  const free = node.capacity.places - node.reserved.places;
  if (free <= 0) return "full";
  if (free < leastFreePlaces(node, wish)) return "kept";
  return sandbox.memoryMib > freeMemoryMib(node) ? "memory" : null;
}

/** How many of a node's places are kept for organizations with few sandboxes, as `SandboxPlaces.kept` says. */
export function keptPlaces({ places }: Pick<NodeCapacity, "places">, kept: number | null): number {
  return Math.max(0, Math.min(kept ?? Math.ceil(places / 10), places - 1));
}

function freeMemoryMib({ capacity, reserved }: NodeRecord): number {
  return capacity.memoryMib === null ? Infinity : Math.max(0, capacity.memoryMib - reserved.memoryMib);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
