import type { Token } from "@caisson/database";
import type { Actor, AppContext } from "../context.ts";

/** The tokens of the actor's organization that are not revoked, newest first. */
export async function listTokens(app: AppContext, actor: Actor): Promise<readonly Token[]> {
  return app.store.organizations.listTokens(actor.organization.id);
}
