import type { IncomingHttpHeaders } from "node:http";
import { CaissonError } from "@caisson/model";
import { HEADERS } from "@caisson/protocol";
import type { Actor, AppContext } from "../app/context.ts";
import { hashToken } from "../app/tokens.ts";

/**
 * Who sends the request. Throws `INVALID_TOKEN` when the token is absent, unknown or revoked, and `FORBIDDEN` when the request names another
 * organization than the token's.
 */
export async function authenticate(app: AppContext, headers: IncomingHttpHeaders): Promise<Actor> {
  const [scheme, text] = headers.authorization?.split(/\s+/) ?? [];
  const isBearer = scheme?.toLowerCase() === "bearer" && text !== undefined && text !== "";
  const token = isBearer ? await app.store.organizations.findToken(hashToken(text)) : null;
  const organization = token === null ? null : await app.store.organizations.get(token.organizationId);
  if (token === null || organization === null) {
    throw new CaissonError(
      "INVALID_TOKEN",
      isBearer
        ? "The token is not valid, or it was revoked"
        : "Send a token in the header: Authorization: Bearer ddo_…",
    );
  }
  const named = headers[HEADERS.organization];
  if (typeof named === "string" && named !== organization.slug && named !== organization.id) {
    throw new CaissonError(
      "FORBIDDEN",
      `The token belongs to another organization than ${JSON.stringify(named.slice(0, 64))}`,
    );
  }
  return { organization, token };
}
