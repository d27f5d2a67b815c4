import type { JoinToken } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, randomCharacters } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import { hashToken } from "../access/token-hash.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { pinOf, printJoinToken } from "./join-token.ts";

const SECRET_LENGTH = 40;
const MAX_LIFETIME_MS = 30 * 86_400_000;

export interface NewJoinToken {
  readonly lifetimeMs: number;
  /** The only region that the node may have; null: those that it says. */
  readonly region: string | null;
  /** Origin under which the machine reaches this server. */
  readonly url: string;
}

/** Makes a token with which one machine joins as a node, once. Its text cannot be shown again. Throws `INVALID_REQUEST`, and `FORBIDDEN` unless the actor may administer the server. */
export async function createJoinToken(
  app: AppContext,
  actor: Actor,
  { lifetimeMs, region, url }: NewJoinToken,
): Promise<{ readonly token: JoinToken; readonly text: string }> {
  requireAdmin(actor, "let machines join");
  if (!(lifetimeMs >= 1000 && lifetimeMs <= MAX_LIFETIME_MS))
    throw new CaissonError("INVALID_REQUEST", "A token for joining is good for 1 second to 30 days");
  if (region !== null && !/^[a-z]{3}$/.test(region))
    throw new CaissonError(
      "INVALID_REQUEST",
      `${JSON.stringify(region.slice(0, 32))} is no region: give three lower-case letters`,
    );
  const authority = await app.authority.oldest();
  const id = `jtk_${randomCharacters(20)}`;
  const secret = randomCharacters(SECRET_LENGTH);
  const event = auditEvent(actor, "join-token-create", { id, organizationId: actor.organization.id }, { region });
  const token = await step("join-token-create.commit", () =>
    app.store.joining.createToken({ id, region }, hashToken(secret), lifetimeMs, event),
  );
  return { token, text: printJoinToken({ url, pin: pinOf(authority.certificatePem), secret }) };
}

/** Those that have not expired, the newest first. Throws `FORBIDDEN` unless the actor may administer the server. */
export async function listJoinTokens(app: AppContext, actor: Actor): Promise<readonly JoinToken[]> {
  requireAdmin(actor, "see tokens for joining");
  return app.store.joining.listTokens();
}

/** Ends a token before its time; a node that has joined with it stays. Throws `NOT_FOUND`, and `FORBIDDEN` unless the actor may administer the server. */
export async function revokeJoinToken(app: AppContext, actor: Actor, id: string): Promise<void> {
  requireAdmin(actor, "revoke tokens for joining");
  const event = auditEvent(actor, "join-token-revoke", { id, organizationId: actor.organization.id });
  if (await step("join-token-revoke.commit", () => app.store.joining.revokeToken(id, event))) return;
  throw new CaissonError(
    "NOT_FOUND",
    `There is no token for joining ${JSON.stringify(id.slice(0, 64))} that has not expired`,
  );
}
