import type { Duplex } from "node:stream";
import type { NewSandbox, Owner } from "@caisson/database";
import { runOperation, Step, settleAll } from "@caisson/linux";
import { isRefusal, newId, type StopReason } from "@caisson/model";
import type { SandboxEnd, SandboxSpec, StartedSandbox } from "@caisson/node";
import type { SandboxConfig } from "@caisson/protocol";
import type { Actor, AppContext } from "../context.ts";
import { nodeChoice, nodesWithout } from "../nodes/node-choice.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { placedOwner } from "../nodes/placed-owner.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireBaseImage } from "../volumes/base-image.ts";
import { waitForEndings } from "../volumes/volume-holders.ts";
import { CreationEnded, type LiveSandbox } from "./live-sandboxes.ts";
import { egressOf } from "./sandbox-egress.ts";
import { goLive } from "./sandbox-live.ts";
import { sandboxLimits } from "./sandbox-places.ts";
import { planSandbox, type SandboxPlan } from "./sandbox-plan.ts";
import { reservationRefused, volumeInUse } from "./sandbox-refusal.ts";
import { releaseSandbox } from "./sandbox-release.ts";

const MIB = 2 ** 20;

/** Has a first word with the agent of a sandbox that has just started, so that what follows need not wait for it. Rejects when that is in vain. */
export type MeetAgent = (openAgent: () => Duplex) => Promise<void>;

const meetNobody: MeetAgent = async () => {};

/**
 * Creates a sandbox and resolves when its agent answers.
 *
 * Intent: the row in `starting`, the holds on its volumes, and the limits, in one transaction, after every name was resolved and while nothing is
 * touched. Then the node mounts root, volumes and scratch disk and starts it. Commit: the row is `running`, with its event, and `meetAgent` has
 * resolved, which runs while the row is written. The step stays on the stack for the sandbox's end.
 *
 * A failure, a client that leaves (`signal`) and a kill undo what was made in the opposite order, and then close the row, which frees the volumes.
 * A crash leaves a row that the next start closes, while the kernel has dropped mounts, devices and processes with the server.
 */
export async function createSandbox(
  app: AppContext,
  actor: Actor,
  config: SandboxConfig,
  hostRegion: string | null,
  signal: AbortSignal,
  meetAgent = meetNobody,
): Promise<LiveSandbox> {
  const startedMs = performance.now();
  const plan = await planSandbox(app, actor, config, hostRegion, signal);
  const sandbox: NewSandbox = {
    id: newId("sbx", plan.region),
    organizationId: actor.organization.id,
    region: plan.region,
    labels: config.labels,
    memoryMib: config.memoryMb,
    createdAtMs: Date.now(),
    stopAtMs: config.stopAtMs,
  };
  return app.live.create(sandbox.id, (ended) =>
    start(app, actor, { sandbox, plan, config, meetAgent, startedMs, signal: AbortSignal.any([signal, ended]) }),
  );
}

interface Creation {
  readonly sandbox: NewSandbox;
  readonly plan: SandboxPlan;
  readonly config: SandboxConfig;
  readonly meetAgent: MeetAgent;
  readonly startedMs: number;
  readonly signal: AbortSignal;
}

async function start(app: AppContext, actor: Actor, creation: Creation): Promise<LiveSandbox> {
  const { sandbox, plan, config, meetAgent, startedMs, signal } = creation;
  const { id } = sandbox;
  const marks = { startedMs, reservedMs: startedMs };
  const end: { damages: readonly string[] } = { damages: [] };
  const placed: { owner: Owner | null; isAsked: boolean } = { owner: null, isAsked: false };
  const place = () => ({ ...sandbox, owner: placedOwner(id, placed.owner) });
  const run = new Step("start", {
    run() {
      const at = app.nodes.of(place());
      placed.isAsked = true;
      return at.node.startSandbox(specOf(app, creation, at), signal);
    },
    async undo() {
      // A node that could not be reached has nothing of it.
      if (placed.isAsked) end.damages = (await releaseSandbox(app, place())).damages;
    },
  });
  const volumeIds = plan.holds.map((hold) => hold.volumeId);
  const stopReason = (): StopReason => stopReasonOf(signal);
  // Who wants one of its volumes waits for the undoing, from the moment that it is certain.
  const { promise: undone, resolve: markUndone } = Promise.withResolvers<boolean>();
  const trackUndoing = () => app.live.trackEnding(id, undone);
  signal.addEventListener("abort", trackUndoing, { once: true });

  const { record, made } = await runOperation(app, {
    name: "sandbox-create",
    objectId: id,
    signal,
    intent: {
      async run() {
        placed.owner = await reserve(app, sandbox, plan, signal).catch((error: unknown) => {
          // A refusal leaves nothing to undo.
          if (isRefusal(error)) markUndone(true);
          throw error;
        });
        marks.reservedMs = performance.now();
        return null;
      },
      async undo() {
        const event = { ...auditEvent(actor, "sandbox-create", sandbox), outcome: stopReason() };
        await app.store.sandboxes.finish(id, stopReason(), Date.now(), event);
        markUndone(true);
      },
    },
    steps: [run],
    commit: {
      async run(stack) {
        const event = auditEvent(actor, "sandbox-create", sandbox, { memoryMib: config.memoryMb, volumes: volumeIds });
        const [record] = await settleAll([
          app.store.sandboxes.commit(id, event),
          meetAgent(() => app.nodes.of(place()).node.openAgent(id)),
        ]);
        return { record, made: stack };
      },
      async withdraw() {
        trackUndoing();
        await app.store.sandboxes.beginEnd(id, stopReason());
        return null;
      },
    },
  });
  signal.removeEventListener("abort", trackUndoing);
  logTrace(app, id, marks, run.value);
  const release = async (): Promise<SandboxEnd> => {
    await made[Symbol.asyncDispose]();
    return end;
  };
  return goLive(app, { record, volumeIds, release });
}

function specOf(app: AppContext, { sandbox, plan, config }: Creation, at: ConnectedNode): SandboxSpec {
  const { cpuCount, pidsMax, terminalsMax } = app.config.sandboxes;
  const { region, hostname, mounts } = plan;
  const root =
    plan.root.kind === "base"
      ? { kind: "image" as const, imageId: requireBaseImage(at, region, plan.root.name).imageId }
      : plan.root;
  return {
    id: sandbox.id,
    region,
    hostname,
    root,
    mounts,
    limits: { memoryBytes: config.memoryMb * MIB, cpuCount, pidsMax, terminalsMax },
    ...egressOf(config),
  };
}

/** Why a creation that failed was not to be. */
function stopReasonOf({ aborted, reason }: AbortSignal): StopReason {
  if (!aborted) return "start-failed";
  return reason instanceof CreationEnded ? reason.reason : "cancelled";
}

/**
 * Reserves, waiting for holders that are ending, up to the configured bound, and returns the run of the node that is to have it. Throws `VOLUME_IN_USE`,
 * `CONCURRENCY_LIMIT_EXCEEDED`, `SERVER_FULL` or `NODE_UNAVAILABLE`.
 */
async function reserve(
  app: AppContext,
  sandbox: NewSandbox,
  { holds, root, rootSnapshotId }: SandboxPlan,
  signal: AbortSignal,
): Promise<Owner> {
  const limits = sandboxLimits(app.config.sandboxes);
  const startedMs = performance.now();
  for (;;) {
    signal.throwIfAborted();
    const withoutRoot = root.kind === "base" ? nodesWithout(app, sandbox.region, root.name) : [];
    const placing = { rootSnapshotId, withoutRoot, ...nodeChoice(app) };
    const outcome = await app.store.sandboxes.reserve(sandbox, holds, limits, placing);
    if (outcome.kind === "reserved") return outcome.owner;
    if (outcome.kind !== "held") throw reservationRefused(app, sandbox, outcome);
    const holderIds = outcome.holders.map((holder) => holder.id);
    if (!(await waitForEndings(app, holderIds, startedMs, signal))) throw await volumeInUse(app, outcome);
  }
}

function logTrace(
  app: AppContext,
  sandboxId: string,
  times: { readonly startedMs: number; readonly reservedMs: number },
  started: StartedSandbox,
): void {
  const round = (durationMs: number) => Math.round(durationMs * 10) / 10;
  app.logger.debug(
    {
      sandboxId,
      totalMs: round(performance.now() - times.startedMs),
      trace: [
        { step: "reserve", durationMs: round(times.reservedMs - times.startedMs) },
        ...started.trace.map(({ step: name, durationMs }) => ({ step: name, durationMs: round(durationMs) })),
      ],
    },
    "sandbox created",
  );
}
