import { CaissonError } from "@caisson/model";
import type { Actor } from "../context.ts";

/** The organization that a server is set up with; its tokens administer the server. */
export const ADMIN_ORGANIZATION = "default";

export function isAdmin(actor: Actor): boolean {
  return actor.organization.slug === ADMIN_ORGANIZATION;
}

/** Throws `FORBIDDEN` unless the actor may administer the server. */
export function requireAdmin(actor: Actor, action = "manage organizations"): void {
  if (isAdmin(actor)) return;
  throw new CaissonError("FORBIDDEN", `Only tokens of the organization "${ADMIN_ORGANIZATION}" may ${action}`);
}
