import type { Organization } from "@caisson/database";
import type { Actor, AppContext } from "../context.ts";
import { isAdmin } from "./administrator.ts";

/** The organizations that the actor may see: its own, or all of them for an administrator. */
export async function listOrganizations(app: AppContext, actor: Actor): Promise<readonly Organization[]> {
  return isAdmin(actor) ? app.store.organizations.list() : [actor.organization];
}
