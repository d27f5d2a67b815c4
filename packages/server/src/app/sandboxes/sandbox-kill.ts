import type { SandboxRecord } from "@caisson/database";
import { type Actor, type AppContext, requireRegionOf } from "../context.ts";
import { isDoneWithin } from "../operations/operation.ts";
import { END_WAIT_MS, endSandbox } from "./sandbox-end.ts";
import { getSandbox, sandboxNotFound } from "./sandbox-get.ts";

/**
 * Ends a sandbox of the actor's organization, also one that is still being created. Resolves to `stopped` when its volumes are free, and to
 * `stopping` when the end takes longer than a caller should wait: it goes on until it is done. Throws `SANDBOX_NOT_FOUND` for one that has ended.
 */
export async function killSandbox(app: AppContext, actor: Actor, id: string): Promise<"stopped" | "stopping"> {
  const sandbox = await getSandbox(app, actor, id);
  if (sandbox.status === "stopped") throw sandboxNotFound(id);
  return (await isDoneWithin(kill(app, sandbox), END_WAIT_MS)) ? "stopped" : "stopping";
}

/** Resolves to whether nothing of the sandbox is left. */
async function kill(app: AppContext, { id, organizationId }: SandboxRecord): Promise<boolean> {
  await app.live.cancel(id, "killed");
  const live = app.live.get(id);
  if (live !== undefined) return endSandbox(app, live, "killed");
  const ending = app.live.ending(id);
  if (ending !== undefined) return ending;
  const now = await app.store.sandboxes.get(organizationId, id);
  // Left over from the last run: its region is missing, or its end is being tried again.
  if (now !== null && now.status !== "stopped") requireRegionOf(app, now);
  return now?.status === "stopped";
}
