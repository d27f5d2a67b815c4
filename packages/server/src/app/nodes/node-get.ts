import type { NodeRecord } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";

/** Throws `NODE_NOT_FOUND`, and `FORBIDDEN` unless the actor may administer the server. */
export async function getNode(app: AppContext, actor: Actor, id: string): Promise<NodeRecord> {
  requireAdmin(actor, "see the nodes");
  const node = await app.store.nodes.get(id);
  if (node !== null) return node;
  throw new CaissonError("NODE_NOT_FOUND", `There is no node ${JSON.stringify(id.slice(0, 64))}: list the nodes`);
}

/** Why this server cannot use what a node has, as a sentence for people; null: it can. */
export function nodeProblem(app: AppContext, { id, generation }: NodeRecord): string | null {
  const reason = app.nodes.whyNot(id);
  if (reason === null) return null;
  return `Cannot reach it: ${reason}${generation === 0 ? ". It has joined, and was not connected yet" : ""}`;
}
