import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";

/** Revokes a token of the actor's organization, by its id: it is refused from then on, and its connections end. Throws `NOT_FOUND`. */
export async function revokeToken(app: AppContext, actor: Actor, id: string): Promise<void> {
  const organizationId = actor.organization.id;
  const event = auditEvent(actor, "token-revoke", { id, organizationId });
  const revoke = () => app.store.organizations.revokeToken(organizationId, id, Date.now(), event);
  if (!(await step("token-revoke.commit", revoke))) throw tokenNotFound(id);
  app.connections.endAll(id);
}

export function tokenNotFound(id: string): CaissonError {
  return new CaissonError(
    "NOT_FOUND",
    `There is no token with the id ${JSON.stringify(id.slice(0, 64))}, or it was revoked before. ` +
      "A token is revoked by its id (tok_…), not by its name or its text: list the tokens to see their ids",
  );
}
