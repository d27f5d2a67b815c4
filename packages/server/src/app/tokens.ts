import { createHash } from "node:crypto";
import type { Organization, Token } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, randomCharacters, requireSlug } from "@caisson/model";
import { auditEvent } from "./audit-event.ts";
import type { Actor, AppContext } from "./context.ts";

/** `ddo_` marks an organization's token (protocol.md 1.3); 40 characters hold about 200 random bits. */
const TOKEN_PREFIX = "ddo_";
const TOKEN_LENGTH = 40;
const MAX_NAME_LENGTH = 64;

/** Tokens are kept as this hash: they are random enough that nothing slower is needed. */
export function hashToken(token: string): Uint8Array {
  return createHash("sha256").update(token).digest();
}

/** Makes a token of the organization. Its text is in the answer only; it cannot be shown again. */
export async function createToken(
  app: Pick<AppContext, "store">,
  actor: Actor | null,
  organizationId: string,
  name: string,
): Promise<{ readonly token: Token; readonly text: string }> {
  if (name === "" || name.length > MAX_NAME_LENGTH) {
    throw new CaissonError("INVALID_REQUEST", `A token's name must be 1 to ${MAX_NAME_LENGTH} characters`);
  }
  const text = `${TOKEN_PREFIX}${randomCharacters(TOKEN_LENGTH)}`;
  const token: Token = { id: `tok_${randomCharacters(20)}`, organizationId, name, createdAtMs: Date.now() };
  const event = auditEvent(actor, "token-create", token, { name });
  await step("token-create.commit", () => app.store.organizations.createToken(token, hashToken(text), event));
  return { token, text };
}

export async function createOrganization(
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
