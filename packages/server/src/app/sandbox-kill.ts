import type { Actor, AppContext } from "./context.ts";
import { endSandbox } from "./sandbox-end.ts";
import { getSandbox, sandboxNotFound } from "./sandbox-get.ts";

/** Ends a sandbox of the actor's organization; its volumes are free when this resolves. Throws `SANDBOX_NOT_FOUND` for one that has ended. */
export async function killSandbox(app: AppContext, actor: Actor, id: string): Promise<void> {
  const sandbox = await getSandbox(app, actor, id);
  const live = app.live.get(id);
  if (live !== undefined) await endSandbox(app, live, "killed");
  else if (sandbox.status === "stopped") throw sandboxNotFound(id);
}
