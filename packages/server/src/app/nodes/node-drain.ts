import type { NodeRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { letGo } from "../disks/disk-take-over.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { getNode } from "./node-get.ts";

/**
 * Keeps new sandboxes away from a node, or no longer; those that it has go on. Replicated volumes in a shared pool that nobody has go to other nodes at once; those that sandboxes have go within a minute of
 * their end (`letGoOfDraining`). Throws `NODE_NOT_FOUND`, and `FORBIDDEN` unless the actor may administer the server.
 */
export async function drainNode(app: AppContext, actor: Actor, id: string, isDraining: boolean): Promise<NodeRecord> {
  requireAdmin(actor, "drain nodes");
  await getNode(app, actor, id);
  const verb = isDraining ? "node-drain" : "node-undrain";
  const event = auditEvent(actor, verb, { id, organizationId: actor.organization.id });
  const node = await step(`${verb}.commit`, () => app.store.nodes.setDraining(id, isDraining, event));
  if (isDraining)
    await letGo(app, id).catch((error: unknown) =>
      app.logger.error({ err: error, nodeId: id }, "cannot give volumes of a node that drains to others"),
    );
  return node;
}
