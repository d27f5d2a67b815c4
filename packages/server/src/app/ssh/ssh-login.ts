import type { AppContext } from "../context.ts";
import type { LiveSandbox } from "../sandboxes/live-sandboxes.ts";
import { fingerprintOf } from "./public-key.ts";
import type { SshAccess } from "./ssh-accesses.ts";

/** Who may log in where. */
export interface SshLogin {
  readonly sandbox: LiveSandbox;
  /** Null: by a key. */
  readonly access: SshAccess | null;
  /** The token or key whose end ends the connection too. */
  readonly ownerId: string;
}

/** By a user name that is a credential. Null: it is none. */
export function findLoginByName(app: AppContext, username: string): SshLogin | null {
  const access = app.ssh.find(username);
  return access === null ? null : { sandbox: access.sandbox, access, ownerId: access.tokenId };
}

/** By a key of the organization that the sandbox with this id belongs to. Null: there is no such sandbox, or no such key. */
export async function findLoginByKey(app: AppContext, username: string, key: Uint8Array): Promise<SshLogin | null> {
  const sandbox = app.live.get(username);
  if (sandbox === undefined || sandbox.ending !== null) return null;
  const found = await app.store.sshKeys.find(sandbox.record.organizationId, fingerprintOf(key));
  return found === null ? null : { sandbox, access: null, ownerId: found.id };
}
