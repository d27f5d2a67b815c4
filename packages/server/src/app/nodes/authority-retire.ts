import type { RetireOutcome } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { type AuthorityState, readAuthority } from "./authority-get.ts";
import { administratingOrganization } from "./installation-authority.ts";

const SHOWN_NODES = 20;

/**
 * Ends the renewal of the installation's authority: the old one is believed no more, its key is deleted, and so are the tokens for joining, which name it. Nodes are told over their connections whom to believe from then on. One without a certificate of the new one is locked out until it
 * joins again, with a token, as the node that it is; with such nodes it is refused, and says which they are, unless `isLockingOut`. It is one transaction: a crash leaves two authorities or one. Throws `NODE_IN_USE` for that, `INVALID_REQUEST` unless there are two authorities, and
 * `FORBIDDEN` unless the actor may administer the server.
 */
export async function retireAuthority(
  app: AppContext,
  actor: Actor,
  { isLockingOut }: { readonly isLockingOut: boolean },
): Promise<AuthorityState> {
  requireAdmin(actor, "retire the authority of the nodes");
  const { believed } = await readAuthority(app);
  const [old, next] = believed;
  const outcome: RetireOutcome =
    old === undefined || next === undefined
      ? { kind: "stale" }
      : await retireOldest(app, actor, { number: old.number, isLockingOut });
  if (outcome.kind === "stale")
    throw new CaissonError(
      "INVALID_REQUEST",
      'There are no two authorities of which the old one could be retired: "caisson nodes authority renew" makes a new one first',
    );
  if (outcome.kind === "refused") {
    const { nodeIds } = outcome;
    const named = nodeIds.slice(0, SHOWN_NODES).join(", ");
    const more = nodeIds.length > SHOWN_NODES ? ` and ${nodeIds.length - SHOWN_NODES} more` : "";
    throw new CaissonError(
      "NODE_IN_USE",
      `Nodes that have no certificate of the new authority would be locked out: ${named}${more}. Have them connected first, which gives them one ("caisson nodes list"), or retire the old one with --yes and let them join again`,
    );
  }
  return readAuthority(app);
}

/** `actor` null: the server itself. */
export async function retireOldest(
  app: Pick<AppContext, "store" | "authority">,
  actor: Actor | null,
  { number, isLockingOut }: { readonly number: number; readonly isLockingOut: boolean },
): Promise<RetireOutcome> {
  const organizationId = actor?.organization.id ?? (await administratingOrganization(app.store));
  const event = auditEvent(actor, "authority-retire", { id: "authority", organizationId }, { number, isLockingOut });
  // Also where nobody knows whether it was committed.
  return step("authority-retire.commit", () => app.store.joining.retireAuthority(number, isLockingOut, event)).finally(
    () => app.authority.changed(),
  );
}
