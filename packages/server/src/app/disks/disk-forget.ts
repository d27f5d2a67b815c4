import type { Owner } from "@caisson/database";
import type { AppContext } from "../context.ts";

/**
 * The last of undoing a creation: forgets the row, whose image is gone. Where the node was given up, nothing has removed that, and the row stays withdrawn: a node that has the same shared pool takes it over and purges it, and what was the lost node's alone
 * is forgotten with that. `owner`: null where none is known, because nothing was reserved.
 */
export async function forgetUnmade(app: AppContext, id: string, owner: Owner | null): Promise<void> {
  if (owner === null || !app.nodes.isLost(owner.nodeId)) await app.store.disks.forget(id, null);
}
