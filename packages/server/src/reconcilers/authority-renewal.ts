import type { AppContext } from "../app/context.ts";
import { readAuthority } from "../app/nodes/authority-get.ts";
import { addAuthority } from "../app/nodes/authority-renew.ts";
import { retireOldest } from "../app/nodes/authority-retire.ts";

/** So long before its end an authority is renewed. A node's certificate is good for a quarter of it. */
const RENEWED_BEFORE_MS = 730 * 86_400_000;

/**
 * Renews the installation's authority when two years of its time are left, and retires the old one when it has ended, unless that would lock out nodes: nobody believes it then anyway, and its key is gone for good. Repeating it changes nothing.
 */
export async function tendAuthority(
  app: Pick<AppContext, "store" | "authority" | "logger">,
  nowMs = Date.now(),
): Promise<void> {
  const { believed } = await readAuthority(app);
  const [oldest, next] = believed;
  if (oldest === undefined) return;
  const { number, expiresAtMs } = oldest;
  const details = { authority: number, until: new Date(expiresAtMs).toISOString() };
  if (next === undefined && expiresAtMs - nowMs <= RENEWED_BEFORE_MS) {
    if ((await isClockPlausible(app, nowMs)) && (await addAuthority(app, null, number)))
      app.logger.info(
        details,
        "the authority of the nodes is being renewed: each node gets a certificate of the new one",
      );
  } else if (next !== undefined && expiresAtMs <= nowMs) {
    const outcome = await retireOldest(app, null, { number, isLockingOut: false });
    if (outcome.kind === "retired") app.logger.info(details, "the old authority of the nodes was retired at its end");
    if (outcome.kind === "refused")
      app.logger.warn(
        { ...details, nodeIds: outcome.nodeIds },
        "the old authority of the nodes has ended, and nodes have no certificate of the new one: let them join again, or forget them, and run: caisson nodes authority retire",
      );
  }
}

/** Where the certificates of all nodes seem to have expired, it is this clock that is wrong: what an authority signs that is made in the future is believed by nobody. */
async function isClockPlausible({ store }: Pick<AppContext, "store">, nowMs: number): Promise<boolean> {
  const untilMs = (await store.nodes.list()).flatMap(({ certificateUntilMs }) => certificateUntilMs ?? []);
  return untilMs.length === 0 || untilMs.some((until) => until > nowMs);
}
