import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { getNode } from "./node-get.ts";

/**
 * Forgets a node that is gone for good. Throws `NODE_NOT_FOUND`, `NODE_IN_USE` while it is live, is this server's own, or holds disks or sandboxes, and `FORBIDDEN` unless the actor may administer the
 * server.
 */
export async function forgetNode(app: AppContext, actor: Actor, id: string): Promise<void> {
  requireAdmin(actor, "forget nodes");
  await getNode(app, actor, id);
  if (id === app.nodes.ownId)
    throw new CaissonError(
      "NODE_IN_USE",
      `Cannot forget node ${id}: this server is that node. Forget it through the server of another node, when this one runs no more`,
    );
  const event = auditEvent(actor, "node-forget", { id, organizationId: actor.organization.id });
  await step("node-forget.commit", () => app.store.nodes.forget(id, event));
}
