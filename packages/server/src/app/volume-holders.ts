import type { AppContext } from "./context.ts";

/**
 * A client that closes a session and goes on at once uses another connection, and the server may hear them in either order; so a volume whose
 * holder is a session is waited for this long before its use is refused.
 */
const CLOSE_RACE_MS = 300;
const CLOSE_RACE_POLL_MS = 10;

/**
 * Waits for sandboxes that hold a volume and are ending, or may be about to. Resolves to true when it is worth looking again, to false when a
 * holder stays or the configured time since `startedMs` is over.
 */
export async function waitForEndings(
  app: AppContext,
  sandboxIds: readonly string[],
  startedMs: number,
): Promise<boolean> {
  const waitedMs = performance.now() - startedMs;
  const leftMs = app.config.sandboxes.holderWaitMs - waitedMs;
  if (leftMs <= 0) return false;
  const endings = sandboxIds.map((id) => app.live.ending(id));
  if (endings.every((ending) => ending !== undefined)) {
    const { promise: timeout, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, leftMs);
    await Promise.race([Promise.allSettled(endings), timeout]);
    clearTimeout(timer);
    return true;
  }
  if (waitedMs >= CLOSE_RACE_MS || !sandboxIds.every((id) => app.live.get(id)?.mode === "session")) return false;
  await new Promise((resolve) => setTimeout(resolve, CLOSE_RACE_POLL_MS));
  return true;
}

/** Lets holders of the volume that are ending come to their end. Whoever holds it then is for the caller's own check to refuse. */
export async function waitForHolders(app: AppContext, volumeId: string): Promise<void> {
  const startedMs = performance.now();
  for (;;) {
    const holders = await app.store.sandboxes.holders(volumeId);
    if (holders.length === 0) return;
    if (
      !(await waitForEndings(
        app,
        holders.map((holder) => holder.sandboxId),
        startedMs,
      ))
    )
      return;
  }
}
