import type { SshKey } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, randomCharacters } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { parsePublicKey } from "./public-key.ts";

const NAME_LENGTH_MAX = 128;
const UNNAMED = "unnamed";

/**
 * Lets a public key log in to every sandbox of the actor's organization. `name` null: the comment of the key's line. Throws `INVALID_REQUEST` for what is
 * no key of a type that is taken, and for one that the organization has.
 */
export async function addSshKey(app: AppContext, actor: Actor, line: string, name: string | null): Promise<SshKey> {
  const { type, bytes, fingerprint, comment } = parsePublicKey(line);
  const chosen = name ?? (comment === "" ? UNNAMED : comment.slice(0, NAME_LENGTH_MAX));
  if (chosen === "" || chosen.length > NAME_LENGTH_MAX)
    throw new CaissonError("INVALID_REQUEST", `A key's name must be 1 to ${NAME_LENGTH_MAX} characters`);
  const key: SshKey = {
    id: `key_${randomCharacters(20)}`,
    organizationId: actor.organization.id,
    name: chosen,
    type,
    publicKey: bytes.toString("base64"),
    fingerprint,
    createdAtMs: Date.now(),
  };
  const event = auditEvent(actor, "ssh-key-add", key, { name: chosen, fingerprint });
  await step("ssh-key-add.commit", () => app.store.sshKeys.add(key, event));
  return key;
}
