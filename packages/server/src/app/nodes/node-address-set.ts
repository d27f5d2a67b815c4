import type { NodeRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { parseNodeAddress } from "./node-address.ts";
import { getNode } from "./node-get.ts";

/**
 * Says where a node on another machine is from now on, as `HOST:PORT`. A connection that stands stays; the next one is made there. Throws `NODE_NOT_FOUND`, `INVALID_REQUEST` for what is no such address and for the node of a
 * server's own host, and `FORBIDDEN` unless the actor may administer the server.
 */
export async function setNodeAddress(app: AppContext, actor: Actor, id: string, address: string): Promise<NodeRecord> {
  requireAdmin(actor, "change the address of nodes");
  const node = await getNode(app, actor, id);
  if (parseNodeAddress(address) === null)
    throw new CaissonError(
      "INVALID_REQUEST",
      `The address ${JSON.stringify(address.slice(0, 300))} is not HOST:PORT, for example 10.0.0.2:8485`,
    );
  if (id === app.nodes.ownId || parseNodeAddress(node.address) === null)
    throw new CaissonError(
      "INVALID_REQUEST",
      `Node ${id} is in the process of a server, which reaches it without an address`,
    );
  const object = { id, organizationId: actor.organization.id };
  const event = auditEvent(actor, "node-address", object, { address, before: node.address });
  return step("node-address.commit", () => app.store.nodes.setAddress(id, address, event));
}
