import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";

/** Removes a key of the actor's organization by its id: it is refused from then on, and the connections by it end. Throws `NOT_FOUND`. */
export async function removeSshKey(app: AppContext, actor: Actor, id: string): Promise<void> {
  const organizationId = actor.organization.id;
  const event = auditEvent(actor, "ssh-key-remove", { id, organizationId });
  const isRemoved = await step("ssh-key-remove.commit", () => app.store.sshKeys.remove(organizationId, id, event));
  if (!isRemoved) {
    throw new CaissonError(
      "NOT_FOUND",
      `The organization has no SSH key with the id ${JSON.stringify(id.slice(0, 64))}: list the keys to see their ids (key_…)`,
    );
  }
  app.connections.endAll(id);
}
