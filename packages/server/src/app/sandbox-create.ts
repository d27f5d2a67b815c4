import type { Hold, NewSandbox, ReserveOutcome, SandboxRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, newId } from "@caisson/model";
import type { SandboxConfig } from "@caisson/protocol";
import type { RunningSandbox } from "@caisson/runtime";
import { type Actor, type AppContext, recordEvent } from "./context.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";
import { egressOf } from "./sandbox-egress.ts";
import { endAt, endSandbox } from "./sandbox-end.ts";
import { mountForSandbox } from "./sandbox-mounts.ts";
import { planSandbox } from "./sandbox-plan.ts";
import { waitForEndings } from "./volume-holders.ts";

const MIB = 2 ** 20;

/**
 * Creates a sandbox and resolves when its agent answers. The order: plan (nothing touched yet), reserve (row, holds and limits in one
 * transaction), then root, volumes and scratch disk side by side, then the runtime. A failure undoes what was made, in reverse, and the row says so;
 * a crash leaves a row that the next start closes, while the kernel has dropped mounts, devices and processes with the server.
 */
export async function createSandbox(
  app: AppContext,
  actor: Actor,
  config: SandboxConfig,
  hostRegion: string | null,
): Promise<LiveSandbox> {
  const startedMs = performance.now();
  app.live.requireOpen();
  const plan = await planSandbox(app, actor, config, hostRegion);
  const sandbox: NewSandbox = {
    id: newId("sbx", plan.region.name),
    organizationId: actor.organization.id,
    region: plan.region.name,
    labels: config.labels,
    memoryMib: config.memoryMb,
    createdAtMs: Date.now(),
    stopAtMs: config.stopAtMs,
  };
  await reserve(app, sandbox, plan.holds);
  const reservedMs = performance.now();
  const undo = new AsyncDisposableStack();
  try {
    const { root, mounts } = await mountForSandbox(plan, undo);
    const mountedMs = performance.now();
    undo.defer(() => app.runtime.stop(sandbox.id));
    const running = await step("sandbox-create.start", () =>
      app.runtime.start({
        id: sandbox.id,
        root,
        mounts,
        limits: {
          memoryBytes: config.memoryMb * MIB,
          cpuCount: app.config.sandboxes.cpuCount,
          pidsMax: app.config.sandboxes.pidsMax,
        },
        ...egressOf(config),
      }),
    );
    await step("sandbox-create.commit", () => app.store.sandboxes.setStatus(sandbox.id, "running"));
    logTrace(app, sandbox.id, { startedMs, reservedMs, mountedMs }, running);
    await recordEvent(app, actor, "sandbox-create", sandbox, {
      memoryMib: config.memoryMb,
      volumes: plan.holds.map((hold) => hold.volumeId),
    });
    return await adopt(app, actor, sandbox, running, undo);
  } catch (error) {
    const undone = (async () => {
      await undo.disposeAsync();
      await app.store.sandboxes.finish(sandbox.id, "start-failed", Date.now());
    })();
    app.live.trackEnding(sandbox.id, undone);
    await undone;
    throw error;
  }
}

async function adopt(
  app: AppContext,
  actor: Actor,
  sandbox: NewSandbox,
  running: RunningSandbox,
  undo: AsyncDisposableStack,
): Promise<LiveSandbox> {
  const record = await app.store.sandboxes.get(actor.organization.id, sandbox.id);
  if (record === null) throw new Error(`The row of sandbox ${sandbox.id} is gone`);
  const { promise: ended, resolve: markEnded } = Promise.withResolvers<void>();
  const live: LiveSandbox = {
    record,
    running,
    release: () => resources.disposeAsync(),
    mode: record.stopAtMs === null ? "session" : "duration",
    keepUntilMs: 0,
    timer: null,
    ending: null,
    ended,
    markEnded,
  };
  app.live.add(live);
  // From here on its end gives everything back, so nothing may fail any more.
  const resources = undo.move();
  if (record.stopAtMs !== null) endAt(app, live, record.stopAtMs, "timeout");
  // A sandbox whose first process is gone has nothing left to do, whatever its mode.
  void running.exited.then(() => endSandbox(app, live, "exited").catch(() => {}));
  return live;
}

/** Reserves, waiting for holders that are ending, up to the configured bound. Throws `VOLUME_IN_USE` or `CONCURRENCY_LIMIT_EXCEEDED`. */
async function reserve(app: AppContext, sandbox: NewSandbox, holds: readonly Hold[]): Promise<void> {
  const { maxPerOrganization } = app.config.sandboxes;
  const startedMs = performance.now();
  for (;;) {
    const outcome = await step("sandbox-create.reserve", () =>
      app.store.sandboxes.reserve(sandbox, holds, maxPerOrganization),
    );
    if (outcome.kind === "reserved") return;
    if (outcome.kind === "limit") {
      throw new CaissonError(
        "CONCURRENCY_LIMIT_EXCEEDED",
        `The organization has ${outcome.live} running sandboxes, the limit is ${maxPerOrganization}: end one first`,
      );
    }
    const holderIds = outcome.holders.map((holder) => holder.id);
    if (!(await waitForEndings(app, holderIds, startedMs))) throw await volumeInUse(app, outcome);
  }
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
  times: { readonly startedMs: number; readonly reservedMs: number; readonly mountedMs: number },
  running: RunningSandbox,
): void {
  const round = (durationMs: number) => Math.round(durationMs * 10) / 10;
  app.logger.debug(
    {
      sandboxId,
      totalMs: round(performance.now() - times.startedMs),
      trace: [
        { step: "reserve", durationMs: round(times.reservedMs - times.startedMs) },
        { step: "mount", durationMs: round(times.mountedMs - times.reservedMs) },
        ...running.trace.map(({ step: name, durationMs }) => ({ step: name, durationMs: round(durationMs) })),
      ],
    },
    "sandbox created",
  );
}
