import { step } from "@caisson/linux";
import { MAX_LIFETIME_MS } from "@caisson/protocol";
import { type AppContext, recordEvent } from "./context.ts";
import type { LiveSandbox, StopReason } from "./live-sandboxes.ts";
import { measureUsage } from "./usage.ts";

/**
 * Ends a sandbox, once, whoever asks and how often: kill the processes, close the clients, unmount and detach the volumes, wipe the scratch disk,
 * and only then mark the row, which frees the volumes for others. Resolves when all of that is done.
 */
export function endSandbox(app: AppContext, live: LiveSandbox, reason: StopReason): Promise<void> {
  live.ending ??= end(app, live, reason);
  app.live.trackEnding(live.record.id, live.ending);
  return live.ending;
}

async function end(app: AppContext, live: LiveSandbox, reason: StopReason): Promise<void> {
  const { id } = live.record;
  if (live.timer !== null) clearTimeout(live.timer);
  try {
    await step("sandbox-end.intent", () => app.store.sandboxes.setStatus(id, "stopping", reason));
    const holds = await app.store.sandboxes.holds(id);
    await step("sandbox-end.release", () => live.release());
    await step("sandbox-end.commit", () => app.store.sandboxes.finish(id, reason, Date.now()));
    app.live.remove(id);
    live.markEnded();
    app.logger.debug({ sandboxId: id, reason }, "sandbox ended");
    await measureUsage(
      app,
      holds.map((hold) => hold.volumeId),
    );
    await recordEvent(app, null, "sandbox-end", live.record, { reason });
  } catch (error) {
    // The row stays as it is: its volumes remain attached rather than being handed out while something may still write to them.
    app.logger.error(
      { err: error, sandboxId: id },
      "cannot end the sandbox cleanly; a restart of the server settles it",
    );
    throw error;
  }
}

/** Ends the sandbox at `atMs` unless it ends before; replaces an earlier time. A failing end is logged there. */
export function endAt(app: AppContext, live: LiveSandbox, atMs: number, reason: StopReason): void {
  if (live.timer !== null) clearTimeout(live.timer);
  if (live.ending !== null) return;
  live.timer = setTimeout(() => void endSandbox(app, live, reason).catch(() => {}), Math.max(0, atMs - Date.now()));
}

/** The creator's connection is gone: a session ends now, or when the extension it was promised is over. A duration sandbox lives on. */
export function primaryLeft(app: AppContext, live: LiveSandbox): void {
  if (live.mode === "duration" || live.ending !== null) return;
  endAt(app, live, live.keepUntilMs, "primary-left");
}

/**
 * Extends the life of a sandbox to `requestedMs`, at most 30 minutes from now and never shorter than it was (protocol.md 5.4). Of a session
 * sandbox it is a promise to outlive the primary until then, and imposes no end while the primary stays. Returns the effective end.
 */
export async function extendSandbox(app: AppContext, live: LiveSandbox, requestedMs: number): Promise<number> {
  const nowMs = Date.now();
  const requested = Math.min(requestedMs, nowMs + MAX_LIFETIME_MS);
  if (live.mode === "session") {
    live.keepUntilMs = Math.max(live.keepUntilMs, requested, nowMs + 1);
    return live.keepUntilMs;
  }
  const stopAtMs = Math.max(live.record.stopAtMs ?? 0, requested);
  await app.store.sandboxes.setStopAt(live.record.id, stopAtMs);
  live.record = { ...live.record, stopAtMs };
  endAt(app, live, stopAtMs, "timeout");
  return stopAtMs;
}
