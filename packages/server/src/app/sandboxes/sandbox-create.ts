import type { NewSandbox, ReserveOutcome, SandboxRecord } from "@caisson/database";
import { runOperation, Step } from "@caisson/linux";
import { CaissonError, isRefusal, newId, type StopReason } from "@caisson/model";
import type { SandboxEnd, SandboxSpec, StartedSandbox } from "@caisson/node";
import type { SandboxConfig } from "@caisson/protocol";
import type { Actor, AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { waitForEndings } from "../volumes/volume-holders.ts";
import { CreationEnded, type LiveSandbox } from "./live-sandboxes.ts";
import { egressOf } from "./sandbox-egress.ts";
import { goLive } from "./sandbox-live.ts";
import { type NodePlaces, sandboxPlaces } from "./sandbox-places.ts";
import { planSandbox, type SandboxPlan } from "./sandbox-plan.ts";
import { releaseSandbox } from "./sandbox-release.ts";

const MIB = 2 ** 20;

/**
 * Creates a sandbox and resolves when its agent answers.
 *
 * Intent: the row in `starting`, the holds on its volumes, and the limits, in one transaction, after every name was resolved and while nothing is
 * touched. Then the node mounts root, volumes and scratch disk and starts it. Commit: the row is `running`, with its event. The step stays on the
 * stack for the sandbox's end.
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
): Promise<LiveSandbox> {
  const startedMs = performance.now();
  const plan = await planSandbox(app, actor, config, hostRegion);
  const sandbox: NewSandbox = {
    id: newId("sbx", plan.region),
    owner: plan.at.owner,
    organizationId: actor.organization.id,
    region: plan.region,
    labels: config.labels,
    memoryMib: config.memoryMb,
    createdAtMs: Date.now(),
    stopAtMs: config.stopAtMs,
  };
  return app.live.create(sandbox, (ended) =>
    start(app, actor, { sandbox, plan, config, startedMs, signal: AbortSignal.any([signal, ended]) }),
  );
}

interface Creation {
  readonly sandbox: NewSandbox;
  readonly plan: SandboxPlan;
  readonly config: SandboxConfig;
  readonly startedMs: number;
  readonly signal: AbortSignal;
}

async function start(app: AppContext, actor: Actor, creation: Creation): Promise<LiveSandbox> {
  const { sandbox, plan, config, startedMs, signal } = creation;
  const { id } = sandbox;
  const marks = { startedMs, reservedMs: startedMs };
  const end: { damages: readonly string[] } = { damages: [] };
  const run = new Step("start", {
    run: () => plan.at.node.startSandbox(specOf(app, creation), signal),
    async undo() {
      end.damages = (await releaseSandbox(app, sandbox)).damages;
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
        await reserve(app, sandbox, plan, signal).catch((error: unknown) => {
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
        return { record: await app.store.sandboxes.commit(id, event), made: stack };
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

function specOf(app: AppContext, { sandbox, plan, config }: Creation): SandboxSpec {
  const { cpuCount, pidsMax, terminalsMax } = app.config.sandboxes;
  const { region, hostname, root, mounts } = plan;
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

/** Reserves, waiting for holders that are ending, up to the configured bound. Throws `VOLUME_IN_USE`, `CONCURRENCY_LIMIT_EXCEEDED`, `SERVER_FULL` or `NODE_UNAVAILABLE`. */
async function reserve(
  app: AppContext,
  sandbox: NewSandbox,
  { holds, at }: SandboxPlan,
  signal: AbortSignal,
): Promise<void> {
  const places = sandboxPlaces(app.config.sandboxes, at.places.placeCount);
  const startedMs = performance.now();
  for (;;) {
    signal.throwIfAborted();
    const outcome = await app.store.sandboxes.reserve(sandbox, holds, places);
    if (outcome.kind === "reserved") return;
    if (outcome.kind === "draining") throw nodeDraining(sandbox.owner.nodeId);
    if (outcome.kind === "full") throw serverFull(outcome.isKept, places, at.places, app.config.sandboxes.max);
    if (outcome.kind === "memory") throw memoryFull(sandbox.memoryMib, outcome.freeMib);
    if (outcome.kind === "limit") {
      throw new CaissonError(
        "CONCURRENCY_LIMIT_EXCEEDED",
        `The organization has ${outcome.live} running sandboxes, the limit is ${places.perOrganization} (sandboxes.max_per_organization): end one first`,
      );
    }
    const holderIds = outcome.holders.map((holder) => holder.id);
    if (!(await waitForEndings(app, holderIds, startedMs, signal))) throw await volumeInUse(app, outcome);
  }
}

function nodeDraining(nodeId: string): CaissonError {
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot create a sandbox on node ${nodeId}: it is being drained, and takes no more. An administrator ends that with "caisson nodes undrain ${nodeId}"`,
  );
}

function memoryFull(wantedMib: number, freeMib: number): CaissonError {
  return new CaissonError(
    "SERVER_FULL",
    `Cannot create a sandbox with ${wantedMib} MiB of memory: of what the sandboxes of this server may have together, ${freeMib} MiB are left. ` +
      "End a sandbox, or create one with less memory",
  );
}

function serverFull(
  isKept: boolean,
  { total, kept, keptEach }: NodePlaces,
  { placeCount, placeBound }: ConnectedNode["places"],
  setting: number,
): CaissonError {
  if (isKept)
    return new CaissonError(
      "SERVER_FULL",
      `All but the last ${kept} of the ${total} places for sandboxes on this server are taken, and those are kept for organizations that run fewer than ${keptEach} (sandboxes.kept_places): end a sandbox, or try again later`,
    );
  const all = `All ${total} places for sandboxes on this server are taken`;
  return new CaissonError(
    "SERVER_FULL",
    placeBound === null || setting < placeCount
      ? `${all} (sandboxes.max): end a sandbox, raise that setting, or try again later`
      : `${all}: end a sandbox, or try again later. There are no more, because ${placeBound}`,
  );
}

async function volumeInUse(app: AppContext, outcome: Extract<ReserveOutcome, { kind: "held" }>): Promise<CaissonError> {
  const volume = await app.store.disks.get(outcome.volumeId);
  const [holder] = outcome.holders;
  return new CaissonError(
    "VOLUME_IN_USE",
    `Cannot attach volume ${JSON.stringify(volume?.slug ?? outcome.volumeId)}: it is attached to sandbox ${holder?.id}${untilText(holder)}. ` +
      "End that sandbox, or mount the volume read-only in both",
  );
}

function untilText(holder: SandboxRecord | undefined): string {
  return holder?.stopAtMs == null ? "" : ` until ${new Date(holder.stopAtMs).toISOString()}`;
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
