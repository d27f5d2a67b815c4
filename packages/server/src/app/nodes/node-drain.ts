import type { NodeRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { getNode } from "./node-get.ts";

/** Keeps new sandboxes away from a node, or no longer; those that it has go on. Throws `NODE_NOT_FOUND`, and `FORBIDDEN` unless the actor may administer the server. */
export async function drainNode(app: AppContext, actor: Actor, id: string, isDraining: boolean): Promise<NodeRecord> {
  requireAdmin(actor, "drain nodes");
  await getNode(app, actor, id);
  const verb = isDraining ? "node-drain" : "node-undrain";
  const event = auditEvent(actor, verb, { id, organizationId: actor.organization.id });
  return step(`${verb}.commit`, () => app.store.nodes.setDraining(id, isDraining, event));
}
