import { setTimeout as delay } from "node:timers/promises";
import { isDoneWithin } from "@caisson/linux";
import type { AppContext } from "../context.ts";

/**
 * A client that closes a session, or gives up a create, and goes on at once uses another connection, and the server may hear them in either order;
 * so a volume whose holder is a session or is being created is waited for this long before its use is refused.
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
  signal?: AbortSignal,
): Promise<boolean> {
  const waitedMs = performance.now() - startedMs;
  const leftMs = app.config.sandboxes.holderWaitMs - waitedMs;
  if (leftMs <= 0) return false;
  const endings = sandboxIds.map((id) => app.live.ending(id));
  if (endings.every((ending) => ending !== undefined)) {
    await orAbort(
      isDoneWithin(
        Promise.all(endings).then((all) => all.every(Boolean)),
        leftMs,
      ),
      signal,
    );
    return true;
  }
  const mayEnd = (id: string) => app.live.isBeingCreated(id) || app.live.get(id)?.mode === "session";
  if (waitedMs >= CLOSE_RACE_MS || !sandboxIds.every(mayEnd)) return false;
  await delay(CLOSE_RACE_POLL_MS);
  return true;
}

/** Waits, but not after the abort. */
async function orAbort(work: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  const { promise: aborted, resolve } = Promise.withResolvers<void>();
  const end = () => resolve();
  signal?.addEventListener("abort", end, { once: true });
  if (signal?.aborted) resolve();
  await Promise.race([work, aborted]);
  signal?.removeEventListener("abort", end);
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
