import type { AuditEvent } from "@caisson/database";
import type { Actor } from "../context.ts";

/** One line of the audit trail, for the transaction that does what it tells of. Without an actor it is the server's own doing. */
export function auditEvent(
  actor: Actor | null,
  verb: string,
  subject: { readonly id: string; readonly organizationId: string },
  detail: Readonly<Record<string, unknown>> = {},
): AuditEvent {
  return {
    organizationId: subject.organizationId,
    atMs: Date.now(),
    actor: actor?.token.id ?? "server",
    verb,
    objectId: subject.id,
    outcome: "ok",
    detail,
  };
}
