import {
  type NewSandbox,
  type NodeObstacle,
  type NodeRecord,
  type ReserveOutcome,
  regionUnavailable,
  type SandboxRecord,
} from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../context.ts";
import { sandboxLimits } from "./sandbox-places.ts";

/** A message names no more nodes of one state than these. */
const MAX_NODES_NAMED = 8;

type Refusal = Exclude<ReserveOutcome, { kind: "reserved" } | { kind: "held" }>;

/** Why a sandbox cannot be reserved, with what to do. */
export function reservationRefused(app: AppContext, sandbox: NewSandbox, outcome: Refusal): CaissonError {
  switch (outcome.kind) {
    case "limit":
      return new CaissonError(
        "CONCURRENCY_LIMIT_EXCEEDED",
        `The organization has ${outcome.live} running sandboxes, the limit is ${app.config.sandboxes.maxPerOrganization} (sandboxes.max_per_organization): end one first`,
      );
    case "scattered":
      return new CaissonError(
        "NODE_UNAVAILABLE",
        `Cannot create a sandbox with volumes and snapshots of several nodes: ${outcome.disks.map(({ slug, nodeId }) => `${JSON.stringify(slug)} is on node ${nodeId}`).join(", ")}. ` +
          "Use what lies on one node",
      );
    case "unavailable":
      return regionUnavailable("create a sandbox", sandbox.region, outcome.nodes);
    case "draining":
      return nodesDraining(outcome.nodes);
    case "full":
      return serverFull(app, sandbox, outcome);
    case "memory":
      return memoryFull(sandbox, outcome);
  }
}

/** Somebody holds a volume, and goes on doing so. */
export async function volumeInUse(
  app: AppContext,
  outcome: Extract<ReserveOutcome, { kind: "held" }>,
): Promise<CaissonError> {
  const volume = await app.store.disks.get(outcome.volumeId);
  const [holder] = outcome.holders;
  return new CaissonError(
    "VOLUME_IN_USE",
    `Cannot attach volume ${JSON.stringify(volume?.slug ?? outcome.volumeId)}: it is attached to sandbox ${holder?.id}${untilText(holder)}. ` +
      "End that sandbox, or mount the volume read-only in both",
  );
}

function nodesDraining(nodes: readonly NodeRecord[]): CaissonError {
  const ids = nodes.map(({ id }) => id);
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot create a sandbox on node ${ids.join(" or ")}: it is being drained, and takes no more. An administrator ends that with "caisson nodes undrain ${ids[0]}"`,
  );
}

const OBSTACLES = {
  full: "full",
  kept: "full but for the places that are kept",
  memory: "short of memory",
  draining: "being drained",
  unavailable: "away",
} as const satisfies Record<NodeObstacle["obstacle"], string>;

/** How each of several nodes stands in the way, in brackets; nothing for one alone. */
function whichNodes(obstacles: readonly NodeObstacle[]): string {
  if (obstacles.length < 2) return "";
  const groups = Map.groupBy(obstacles, ({ obstacle }) => OBSTACLES[obstacle]);
  const words = [...groups].map(([state, found]) => {
    const ids = found.slice(0, MAX_NODES_NAMED).map(({ nodeId }) => nodeId);
    const more = found.length > ids.length ? [`${found.length - ids.length} more`] : [];
    return `${state}: ${[...ids, ...more].join(", ")}`;
  });
  return ` (${words.join("; ")})`;
}

function memoryFull(
  { memoryMib, region }: NewSandbox,
  { freeMib, obstacles }: Extract<Refusal, { kind: "memory" }>,
): CaissonError {
  const left =
    obstacles.length > 1
      ? `no node of region "${region}" that has a place for it has more than ${freeMib} MiB left of what its sandboxes may have together${whichNodes(obstacles)}`
      : `of what the sandboxes of this server may have together, ${freeMib} MiB are left`;
  return new CaissonError(
    "SERVER_FULL",
    `Cannot create a sandbox with ${memoryMib} MiB of memory: ${left}. End a sandbox, or create one with less memory`,
  );
}

function serverFull(
  { config, nodes }: AppContext,
  { region }: NewSandbox,
  { isKept, places, kept, obstacles }: Extract<Refusal, { kind: "full" }>,
): CaissonError {
  const where = obstacles.length > 1 ? `the nodes of region "${region}"${whichNodes(obstacles)}` : "this server";
  if (isKept)
    return new CaissonError(
      "SERVER_FULL",
      `All but the last ${kept} of the ${places} places for sandboxes on ${where} are taken, and those are kept for organizations that run fewer than ${sandboxLimits(config.sandboxes).keptEach} (sandboxes.kept_places): end a sandbox, or try again later`,
    );
  const all = `All ${places} places for sandboxes on ${where} are taken`;
  const bounds = nodes.all().map((node) => node.places);
  // The settings of the nodes may ask for less than their hosts have room for.
  const bound = bounds.find(({ placeCount, placeBound }) => placeBound !== null && placeCount <= config.sandboxes.max);
  return new CaissonError(
    "SERVER_FULL",
    bound === undefined
      ? `${all} (sandboxes.max): end a sandbox, raise that setting, or try again later`
      : `${all}: end a sandbox, or try again later. There are no more, because ${bound.placeBound}`,
  );
}

function untilText(holder: SandboxRecord | undefined): string {
  return holder?.stopAtMs == null ? "" : ` until ${new Date(holder.stopAtMs).toISOString()}`;
}
