import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "./context.ts";

/** Revokes a token of the actor's organization, by its id; it is refused from then on. Throws `NOT_FOUND`. */
export async function revokeToken(app: AppContext, actor: Actor, id: string): Promise<void> {
  if (await app.store.organizations.revokeToken(actor.organization.id, id, Date.now())) return;
  throw new CaissonError(
    "NOT_FOUND",
    `There is no token with the id ${JSON.stringify(id.slice(0, 64))}, or it was revoked before. ` +
      "A token is revoked by its id (tok_…), not by its name or its text: list the tokens to see their ids",
  );
}
