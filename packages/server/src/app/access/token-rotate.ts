import type { Token } from "@caisson/database";
import { step } from "@caisson/linux";
import { randomCharacters } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { type CreatedToken, newTokenText } from "./token-create.ts";
import { hashToken } from "./token-hash.ts";
import { tokenNotFound } from "./token-revoke.ts";

/**
 * Puts a new token in the place of one of the actor's organization, with the same name; `id` null: the actor's own. The old one is refused from then
 * on, and its connections end. If it is the one in credentials.json, the new one is afterwards. Throws `NOT_FOUND`.
 */
export async function rotateToken(app: AppContext, actor: Actor, id: string | null): Promise<CreatedToken> {
  const organizationId = actor.organization.id;
  const oldId = id ?? actor.token.id;
  const old = (await app.store.organizations.listTokens(organizationId)).find((token) => token.id === oldId);
  if (old === undefined) throw tokenNotFound(oldId);
  const text = newTokenText();
  const token: Token = {
    id: `tok_${randomCharacters(20)}`,
    organizationId,
    name: old.name,
    createdAtMs: Date.now(),
  };
  const event = auditEvent(actor, "token-rotate", old, { name: old.name, replacedBy: token.id });
  const commit = () =>
    step("token-rotate.commit", () => app.store.organizations.rotateToken(oldId, token, hashToken(text), event));
  if (!(await app.credentials.replaceToken(oldId, text, commit))) throw tokenNotFound(oldId);
  app.connections.endAll(oldId);
  return { token, text };
}
