import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { type AuthorityState, readAuthority } from "./authority-get.ts";
import { administratingOrganization, createAuthorityKeys } from "./installation-authority.ts";

/**
 * Begins to renew the installation's authority: makes a new one, which is believed beside the old one from then on, and which every node that is connected gets a certificate of. It is one row: a crash leaves one authority or two, and what nodes
 * have not got yet they get from whichever server leads. Throws `INVALID_REQUEST` while it is being renewed already, and before there is one, and `FORBIDDEN` unless the actor may administer the server.
 */
export async function renewAuthority(app: AppContext, actor: Actor): Promise<AuthorityState> {
  requireAdmin(actor, "renew the authority of the nodes");
  const { believed } = await readAuthority(app);
  const [only] = believed;
  if (only === undefined)
    throw new CaissonError(
      "INVALID_REQUEST",
      'There is no authority to renew: the first "caisson nodes tokens create" makes it',
    );
  if (believed.length > 1 || !(await addAuthority(app, actor, only.number)))
    throw new CaissonError(
      "INVALID_REQUEST",
      'The authority is being renewed already. See with "caisson nodes authority show" which nodes have no certificate of the new one yet, and end it with "caisson nodes authority retire"',
    );
  return readAuthority(app);
}

/** False: the authority `beside` is not alone any more; nothing has changed. `actor` null: the server itself. */
export async function addAuthority(
  app: Pick<AppContext, "store" | "authority">,
  actor: Actor | null,
  beside: number,
): Promise<boolean> {
  const keys = await createAuthorityKeys();
  const organizationId = actor?.organization.id ?? (await administratingOrganization(app.store));
  const event = auditEvent(actor, "authority-renew", { id: "authority", organizationId }, { number: beside + 1 });
  // Also where nobody knows whether it was committed.
  return step("authority-renew.commit", () => app.store.joining.addAuthority(keys, beside, event)).finally(() =>
    app.authority.changed(),
  );
}
