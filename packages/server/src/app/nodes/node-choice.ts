import type { NodeChoice } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "./node-directory.ts";

/** Nodes of the region that do not have the base image, because their pools had no room for it when they started. */
export function nodesWithout(
  { nodes }: Pick<AppContext, "nodes">,
  region: string,
  baseImage: string,
): readonly string[] {
  return nodes
    .inRegion(region)
    .filter((at) => at.regions.get(region)?.baseImages.has(baseImage) !== true)
    .map(({ owner }) => owner.nodeId);
}

/** Whether any node has the region, also one on another machine that cannot be reached now. */
export function isRegion({ nodes }: Pick<AppContext, "nodes">, region: string): boolean {
  return nodes.hasRegion(region);
}

/** What the store has to know when it chooses a node for something new. `without`: nodes that it must not choose. */
export function nodeChoice({ nodes }: Pick<AppContext, "nodes">, without: readonly string[] = []): NodeChoice {
  return { own: nodes.own?.owner ?? null, unreachable: [...nodes.unreachableIds(), ...without] };
}

/**
 * A node for a disk whose making begins before its row does, because what it is made of differs from node to node: of those that can be reached the one with the most free bytes, and one that
 * drains only if there is no other, as the store chooses for others. Throws `INVALID_REGION` with the regions that exist, and `NODE_UNAVAILABLE` when no node of the region can be reached.
 */
export async function pickNode(
  app: AppContext,
  region: string,
  baseImage: string | null = null,
  mayHave: (at: ConnectedNode) => boolean = () => true,
): Promise<ConnectedNode> {
  const [first, ...others] = app.nodes.inRegion(region).filter(mayHave);
  if (first === undefined) throw await regionError(app, region);
  if (others.length === 0) return first;
  const rows = new Map((await app.store.nodes.list()).map((row) => [row.id, row]));
  const without = baseImage === null ? [] : nodesWithout(app, region, baseImage);
  const rank = ({ owner: { nodeId } }: ConnectedNode): readonly [number, number] => {
    const row = rows.get(nodeId);
    return [(without.includes(nodeId) ? 2 : 0) + (row?.isDraining === false ? 0 : 1), -(row?.freeBytes[region] ?? 0)];
  };
  const ranked = [first, ...others].map((at) => ({ at, rank: rank(at) }));
  ranked.sort((a, b) => a.rank[0] - b.rank[0] || a.rank[1] - b.rank[1]);
  return ranked[0]?.at ?? first;
}

/** Throws as `pickNode` does, for what the store chooses a node for. */
export async function requireRegion(app: AppContext, region: string): Promise<void> {
  if (app.nodes.inRegion(region).length === 0) throw await regionError(app, region);
}

async function regionError(app: AppContext, region: string): Promise<CaissonError> {
  const rows = await app.store.nodes.list();
  const shown = JSON.stringify(region.slice(0, 32));
  const having = rows.filter(({ regions }) => regions.includes(region));
  if (having.length === 0) {
    const names = new Set(rows.flatMap(({ regions }) => regions));
    return new CaissonError(
      "INVALID_REGION",
      names.size === 0
        ? `There is no region ${shown}: no node has begun yet. Let a machine join with "caisson nodes tokens create"`
        : `There is no region ${shown} on this server: choose one of ${[...names].join(", ")}`,
    );
  }
  const reasons = having.map(
    ({ id }) =>
      `${id}: ${app.nodes.get(id) === null ? "this server cannot reach it" : "its settings do not name the region any more"}`,
  );
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot make anything in region ${shown}: none of its nodes can be used (${reasons.join("; ")}). Try again later: an administrator sees with "caisson nodes list" why`,
  );
}
