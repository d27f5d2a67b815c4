import { completeSteps, isDoneWithin, step } from "@caisson/linux";
import type { StopReason } from "@caisson/model";
import { MAX_LIFETIME_MS } from "@caisson/protocol";
import type { AppContext } from "../context.ts";
import { measureUsage } from "../disks/usage.ts";
import { auditEvent } from "../operations/audit-event.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";

/** The longest that a caller waits for an end. The official client gives up on a kill after 10 s. */
export const END_WAIT_MS = 8_000;

/**
 * Ends a sandbox, once, whoever asks and how often.
 *
 * Intent: the row is `stopping`, with the reason. Then the processes are killed and the clients closed, then the volumes unmounted and detached and
 * the scratch disk wiped, in the opposite order of their making. Commit: the row is `stopped`, with its event, which frees the volumes.
 *
 * There is no way back: a step that fails is tried again until it succeeds, and the volumes stay held until then rather than being handed out
 * while something may still write to them. A crash leaves a row that the next start closes. Resolves to true when all is done, and to false
 * when the server closes before.
 */
export function endSandbox(app: AppContext, live: LiveSandbox, reason: StopReason): Promise<boolean> {
  if (live.ending !== null) return live.ending;
  live.ending = end(app, live, reason);
  app.live.trackEnding(live.record.id, live.ending);
  return live.ending;
}

/** Ends a sandbox and waits for it, within reason. False: the end goes on in the background. */
export function endSandboxSoon(app: AppContext, live: LiveSandbox, reason: StopReason): Promise<boolean> {
  return isDoneWithin(endSandbox(app, live, reason), END_WAIT_MS);
}

async function end(app: AppContext, live: LiveSandbox, reason: StopReason): Promise<boolean> {
  const { id } = live.record;
  if (live.timer !== null) clearTimeout(live.timer);
  const isDone = await completeSteps(app, "sandbox-end", id, {
    intent: () => app.store.sandboxes.beginEnd(id, reason),
    release: () => live.release(),
    commit: () => {
      const { damages } = live;
      const detail = damages.length === 0 ? { reason } : { reason, damages };
      const event = auditEvent(null, "sandbox-end", live.record, detail);
      return app.store.sandboxes.finish(id, reason, Date.now(), event, damages);
    },
  });
  if (!isDone) return false;
  app.live.remove(id);
  live.markEnded();
  app.metrics.countEnd(reason);
  app.logger.debug({ sandboxId: id, reason }, "sandbox ended");
  void app.persistent.untilDone({ work: "sandbox-end: measure its volumes", objectId: id }, () =>
    measureUsage(app, live.volumeIds),
  );
  return true;
}

/** Ends the sandbox at `atMs` unless it ends before; replaces an earlier time. */
export function endAt(app: AppContext, live: LiveSandbox, atMs: number, reason: StopReason): void {
  if (live.timer !== null) clearTimeout(live.timer);
  if (live.ending !== null) return;
  live.timer = setTimeout(() => void endSandbox(app, live, reason), Math.max(0, atMs - Date.now()));
}

/** The creator's connection is gone: a session ends now, or when the extension it was promised is over. A duration sandbox lives on. */
export async function primaryLeft(app: AppContext, live: LiveSandbox): Promise<void> {
  if (live.mode === "duration" || live.ending !== null) return;
  // A sandbox that ends by itself closes the connection too; then that is the reason, not the creator.
  // Where the node was lost, the connection went with it.
  const cause = await app.nodes
    .find(live.record)
    ?.node.ownEnd(live.record.id)
    .catch(() => null);
  if (live.ending !== null) return;
  if (cause == null) endAt(app, live, live.keepUntilMs, "primary-left");
  else void endSandbox(app, live, cause);
}

/**
 * Extends the life of a sandbox to `requestedMs`, at most 30 minutes from now and never shorter than it was (protocol.md 5.4). Of a session
 * sandbox it is a promise to outlive the primary until then, and imposes no end while the primary stays. Returns the effective end.
 */
export async function extendSandbox(app: AppContext, live: LiveSandbox, requestedMs: number): Promise<number> {
  const nowMs = Date.now();
  const requested = Math.min(requestedMs, nowMs + MAX_LIFETIME_MS);
  if (live.mode === "session") {
    const keepUntilMs = Math.max(live.keepUntilMs, requested, nowMs + 1);
    // Kept from here on, also when the creator leaves while it is recorded.
    live.keepUntilMs = keepUntilMs;
    if (live.timer !== null) endAt(app, live, keepUntilMs, "primary-left");
    await step("sandbox-extend.commit", () => app.store.sandboxes.setKeepUntil(live.record.id, keepUntilMs));
    return keepUntilMs;
  }
  const stopAtMs = Math.max(live.record.stopAtMs ?? 0, requested);
  await step("sandbox-extend.commit", () => app.store.sandboxes.setStopAt(live.record.id, stopAtMs));
  live.record = { ...live.record, stopAtMs };
  endAt(app, live, stopAtMs, "timeout");
  return stopAtMs;
}
