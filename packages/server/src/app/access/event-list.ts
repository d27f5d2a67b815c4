import type { AuditEvent } from "@caisson/database";
import type { Actor, AppContext } from "../context.ts";

const MAX_EVENTS = 200;

/** The newest lines of the organization's audit trail, or of one object of it. */
export async function listEvents(
  app: AppContext,
  actor: Actor,
  objectId: string | null,
): Promise<readonly AuditEvent[]> {
  return app.store.events.list(actor.organization.id, objectId, MAX_EVENTS);
}
