import type { Organization } from "@caisson/database";
import { step } from "@caisson/linux";
import { randomCharacters, requireSlug } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireAdmin } from "./administrator.ts";

/** Makes an organization, for an administrator. Throws `FORBIDDEN`, `INVALID_SLUG` or `SLUG_ALREADY_IN_USE`. */
export async function createOrganization(app: AppContext, actor: Actor, slug: string): Promise<Organization> {
  requireAdmin(actor);
  return addOrganization(app, actor, slug);
}

/** Makes an organization, whoever asks: for the one that a server is set up with. */
export async function addOrganization(
  app: Pick<AppContext, "store">,
  actor: Actor | null,
  slug: string,
): Promise<Organization> {
  const organization: Organization = {
    id: `org_${randomCharacters(20)}`,
    slug: requireSlug(slug),
    createdAtMs: Date.now(),
  };
  const { id } = organization;
  const event = auditEvent(actor, "organization-create", { id, organizationId: id }, { slug });
  await step("organization-create.commit", () => app.store.organizations.create(organization, event));
  return organization;
}
