import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import type { LiveSandbox } from "../sandboxes/live-sandboxes.ts";
import { requireLiveSandbox } from "../sandboxes/sandbox-get.ts";

/**
 * Ends an SSH user name of a sandbox, or with null all of them, and the connections by them; those by keys go on. They are closed before the event is
 * written, as with previews. Throws `SANDBOX_NOT_FOUND`, and `NOT_FOUND` for a name that is none of the sandbox's.
 */
export async function revokeSshAccess(
  app: AppContext,
  actor: Actor,
  sandboxId: string,
  username: string | null,
): Promise<void> {
  const sandbox = await requireLiveSandbox(app, actor, sandboxId);
  const count = username === null ? app.ssh.removeAll(sandbox) : removeOne(app, sandbox, username);
  const event = auditEvent(actor, "ssh-access-revoke", sandbox.record, { count });
  await step("ssh-access-revoke.event", () => app.store.events.record(event));
}

function removeOne(app: AppContext, sandbox: LiveSandbox, username: string): number {
  const access = app.ssh.find(username);
  if (access?.sandbox !== sandbox)
    throw new CaissonError(
      "NOT_FOUND",
      `Sandbox ${sandbox.record.id} has no such SSH user name: it was revoked, or never was`,
    );
  app.ssh.remove(access);
  return 1;
}
