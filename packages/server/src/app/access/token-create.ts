import type { Token } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, randomCharacters } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireAdmin } from "./administrator.ts";
import { hashToken } from "./token-hash.ts";

/** `ddo_` marks an organization's token (protocol.md 1.3); 40 characters hold about 200 random bits. */
const TOKEN_PREFIX = "ddo_";
const TOKEN_LENGTH = 40;
const MAX_NAME_LENGTH = 64;

export interface CreatedToken {
  readonly token: Token;
  /** What a client sends. */
  readonly text: string;
}

/**
 * Makes a token of the actor's organization, or of another one for an administrator. Its text is in the answer only; it cannot be shown
 * again. Throws `FORBIDDEN`, `NOT_FOUND` for an organization that does not exist, and `INVALID_REQUEST` for a bad name.
 */
export async function createToken(
  app: AppContext,
  actor: Actor,
  name: string,
  organizationIdOrSlug: string | null,
): Promise<CreatedToken> {
  return createOrganizationToken(app, actor, await targetOrganization(app, actor, organizationIdOrSlug), name);
}

/** What clients send, and nobody can guess. */
export function newTokenText(): string {
  return `${TOKEN_PREFIX}${randomCharacters(TOKEN_LENGTH)}`;
}

/** Makes a token of an organization, whoever asks: for the server's own first token. */
export async function createOrganizationToken(
  app: Pick<AppContext, "store">,
  actor: Actor | null,
  organizationId: string,
  name: string,
  text = newTokenText(),
): Promise<CreatedToken> {
  if (name === "" || name.length > MAX_NAME_LENGTH) {
    throw new CaissonError("INVALID_REQUEST", `A token's name must be 1 to ${MAX_NAME_LENGTH} characters`);
  }
  const token: Token = { id: `tok_${randomCharacters(20)}`, organizationId, name, createdAtMs: Date.now() };
  const event = auditEvent(actor, "token-create", token, { name });
  await step("token-create.commit", () => app.store.organizations.createToken(token, hashToken(text), event));
  return { token, text };
}

async function targetOrganization(app: AppContext, actor: Actor, named: string | null): Promise<string> {
  const { id, slug } = actor.organization;
  if (named === null || named === slug || named === id) return id;
  requireAdmin(actor);
  const organization = await app.store.organizations.get(named);
  if (organization !== null) return organization.id;
  throw new CaissonError("NOT_FOUND", `There is no organization ${JSON.stringify(named.slice(0, 64))}`);
}
