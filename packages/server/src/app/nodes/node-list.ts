import type { NodeRecord } from "@caisson/database";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";

/** All nodes, by id. Throws `FORBIDDEN` unless the actor may administer the server. */
export async function listNodes(app: AppContext, actor: Actor): Promise<readonly NodeRecord[]> {
  requireAdmin(actor, "see the nodes");
  return app.store.nodes.list();
}
