import { step } from "@caisson/linux";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireLiveSandbox, sandboxNotFound } from "../sandboxes/sandbox-get.ts";
import type { SshEndpoint } from "./ssh-accesses.ts";

export interface CreatedSshAccess extends SshEndpoint {
  /** The credential, shown this once. */
  readonly username: string;
}

/**
 * Makes a user name that lets in whoever knows it (protocol.md 2.5), until the sandbox ends, the token is revoked or the name is. The event is written
 * first: a name that is handed out is on record. Throws `SANDBOX_NOT_FOUND`, `NOT_SUPPORTED` and `CONCURRENCY_LIMIT_EXCEEDED`.
 */
export async function createSshAccess(app: AppContext, actor: Actor, sandboxId: string): Promise<CreatedSshAccess> {
  const sandbox = await requireLiveSandbox(app, actor, sandboxId);
  const endpoint = app.ssh.requireEndpoint();
  app.ssh.requireRoom(sandbox);
  const username = app.ssh.newName();
  const event = auditEvent(actor, "ssh-access-create", sandbox.record, { username: username.slice(0, 4) });
  await step("ssh-access-create.commit", () => app.store.events.record(event));
  if (sandbox.ending !== null) throw sandboxNotFound(sandboxId);
  app.ssh.requireRoom(sandbox);
  const access = app.ssh.add(username, sandbox, actor.token.id);
  access.forget = app.connections.add(actor.token.id, () => app.ssh.remove(access));
  return { ...endpoint, username };
}
