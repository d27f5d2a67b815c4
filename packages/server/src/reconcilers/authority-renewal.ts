import type { AppContext } from "../app/context.ts";
import { readAuthority } from "../app/nodes/authority-get.ts";
import { addAuthority } from "../app/nodes/authority-renew.ts";
import { retireOldest } from "../app/nodes/authority-retire.ts";

const DAY_MS = 86_400_000;
/** So long before its end an authority is renewed. A node's certificate is good for a quarter of it. */
const RENEWED_BEFORE_MS = 730 * DAY_MS;
/** So long before its end the old one is retired: more than clocks differ. What has no certificate of the new one by then has been away for two years. */
const RETIRED_BEFORE_MS = 7 * DAY_MS;

/** Renews the installation's authority when two years of its time are left, and retires the old one at its end. Repeating it changes nothing. */
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
    if (await addAuthority(app, null, number))
      app.logger.info(
        details,
        "the authority of the nodes is being renewed: each node gets a certificate of the new one",
      );
  } else if (next !== undefined && expiresAtMs - nowMs <= RETIRED_BEFORE_MS) {
    const { kind } = await retireOldest(app, null, { number, isLockingOut: true });
    if (kind === "retired") app.logger.info(details, "the old authority of the nodes was retired at its end");
  }
}
