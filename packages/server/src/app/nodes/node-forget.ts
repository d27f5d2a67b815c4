import type { NodeLoss } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { requireHeir } from "../disks/disk-heir.ts";
import { listShared } from "../disks/disk-take-over.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { parseNodeAddress } from "./node-address.ts";
import { getNode } from "./node-get.ts";
import { forgetLostNode } from "./node-loss.ts";

/** Names of volumes that are told before a node is given up. */
const MAX_NAMES = 100;

/**
 * Forgets a node that is gone for good. Throws `NODE_NOT_FOUND`, `NODE_IN_USE` while it is live, is this server's own, or holds disks or sandboxes, and `FORBIDDEN` unless the actor may administer the
 * server. `isLost`: it is lost for ever with all that it has, which ends or is lost with it; then `NODE_IN_USE` is thrown while it is live or connected, and until this server has tried to connect to it where its row says,
 * and while no other node can take over what it has in a shared pool.
 *
 * Intent of a loss: the node is given up, with which nothing begins there any more. What it had is settled by `forgetLostNode`.
 */
export async function forgetNode(
  app: AppContext,
  actor: Actor,
  id: string,
  { isLost = false }: { readonly isLost?: boolean } = {},
): Promise<void> {
  requireAdmin(actor, "forget nodes");
  const { address, lostAtMs } = await getNode(app, actor, id);
  if (id === app.nodes.ownId)
    throw new CaissonError(
      "NODE_IN_USE",
      `Cannot forget node ${id}: this server is that node. Forget it through the server of another node, when this one runs no more`,
    );
  const object = { id, organizationId: actor.organization.id };
  if (!isLost) {
    await step("node-forget.commit", () => app.store.nodes.forget(id, auditEvent(actor, "node-forget", object)));
    return;
  }
  if (app.nodes.get(id) !== null)
    throw new CaissonError(
      "NODE_IN_USE",
      `Cannot forget node ${id} as lost: this server is connected to it. Stop it for ever first, and try again when its lease is over`,
    );
  // The node of a server's own host has no port.
  const place = parseNodeAddress(address);
  if (lostAtMs === null && place !== null && !(await app.nodes.findAway(id, place)))
    throw new CaissonError(
      "NODE_IN_USE",
      `Cannot forget node ${id} as lost: this server has not found out yet whether it can reach it at ${address}, because it has just begun to lead or to connect, or its address has just changed. Try again in a minute`,
    );
  await requireHeirs(app, id);
  if (lostAtMs === null && place !== null && !(await app.nodes.confirmAway(id, place)))
    throw new CaissonError(
      "NODE_IN_USE",
      `Cannot forget node ${id} as lost: it answers this server again at ${address}. Stop it for ever first, and try again when its lease is over`,
    );
  const { volumeNames: _, ...loss } = await app.store.disks.lossOf(id, 0);
  const event = auditEvent(actor, "node-give-up", object, loss);
  await step("node-forget.intent", () => app.store.nodes.giveUp(id, event));
  await forgetLostNode(app, actor, id);
}

/** What would be lost with a node. Throws `NODE_NOT_FOUND`, and `FORBIDDEN` unless the actor may administer the server. */
export async function getNodeLoss(app: AppContext, actor: Actor, id: string): Promise<NodeLoss> {
  await getNode(app, actor, id);
  return app.store.disks.lossOf(id, MAX_NAMES);
}

/** Throws `NODE_IN_USE` where no other node can take over what this one has in a shared pool. */
async function requireHeirs(app: AppContext, id: string): Promise<void> {
  const disks = await listShared(app, id);
  for (const disk of new Map(disks.map((disk) => [disk.region, disk])).values())
    await requireHeir(app, disk).catch((error: unknown) => {
      if (!(error instanceof CaissonError)) throw error;
      throw new CaissonError("NODE_IN_USE", `Cannot forget node ${id} as lost yet: ${error.message}`);
    });
}
