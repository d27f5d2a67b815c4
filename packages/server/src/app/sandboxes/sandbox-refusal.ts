import {
  type NewSandbox,
  type NodeRecord,
  type ReserveOutcome,
  regionUnavailable,
  type SandboxRecord,
} from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../context.ts";
import { sandboxLimits } from "./sandbox-places.ts";

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
      return serverFull(app, outcome);
    case "memory":
      return memoryFull(app, sandbox.memoryMib, outcome.freeMib);
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

function memoryFull({ nodes }: AppContext, wantedMib: number, freeMib: number): CaissonError {
  const left =
    nodes.all().length > 1
      ? `no node that has a place for it has more than ${freeMib} MiB left of what its sandboxes may have together`
      : `of what the sandboxes of this server may have together, ${freeMib} MiB are left`;
  return new CaissonError(
    "SERVER_FULL",
    `Cannot create a sandbox with ${wantedMib} MiB of memory: ${left}. End a sandbox, or create one with less memory`,
  );
}

function serverFull(
  { config, nodes }: AppContext,
  { isKept, places, kept }: Extract<Refusal, { kind: "full" }>,
): CaissonError {
  if (isKept)
    return new CaissonError(
      "SERVER_FULL",
      `All but the last ${kept} of the ${places} places for sandboxes on this server are taken, and those are kept for organizations that run fewer than ${sandboxLimits(config.sandboxes).keptEach} (sandboxes.kept_places): end a sandbox, or try again later`,
    );
  const all = `All ${places} places for sandboxes on this server are taken`;
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
