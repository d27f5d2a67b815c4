import type { SshKey } from "@caisson/database";
import type { Actor, AppContext } from "../context.ts";

/** The keys of the actor's organization, newest first. */
export async function listSshKeys(app: AppContext, actor: Actor): Promise<readonly SshKey[]> {
  return app.store.sshKeys.list(actor.organization.id);
}
