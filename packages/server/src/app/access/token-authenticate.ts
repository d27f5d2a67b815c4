import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { hashToken } from "./token-hash.ts";

/**
 * Whose token this is. Throws `INVALID_TOKEN` when it is absent, unknown or revoked, and `FORBIDDEN` when the caller names an organization
 * that is not the token's.
 */
export async function authenticateToken(
  app: AppContext,
  text: string | null,
  organizationIdOrSlug: string | null,
): Promise<Actor> {
  if (text === null) throw new CaissonError("INVALID_TOKEN", "Send a token in the header: Authorization: Bearer ddo_…");
  const actor = await app.store.organizations.findToken(hashToken(text));
  if (actor === null) throw new CaissonError("INVALID_TOKEN", "The token is not valid, or it was revoked");
  const { organization } = actor;
  if (
    organizationIdOrSlug !== null &&
    organizationIdOrSlug !== organization.slug &&
    organizationIdOrSlug !== organization.id
  ) {
    throw new CaissonError(
      "FORBIDDEN",
      `The token belongs to another organization than ${JSON.stringify(organizationIdOrSlug.slice(0, 64))}`,
    );
  }
  return actor;
}
