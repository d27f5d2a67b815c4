import { createHmac, randomBytes } from "node:crypto";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { deriveKey, seal, unseal } from "./sealed-bytes.ts";
import { UnreadableKeyError } from "./store-damage.ts";

const KEY_BYTES = 32;
const OBJECT_BYTES_MAX = 1024;

/** The keys of one organization: what it stores can be found and read by them alone. */
export interface OrganizationKey {
  readonly id: string;
  /** The id of a chunk: without the key it tells nothing of what the chunk holds, nor whether another organization has the same one. */
  chunkId(sha256: Buffer): string;
  seal(name: string, bytes: Uint8Array): Buffer;
  unseal(name: string, sealed: Buffer): Buffer;
}

/**
 * The keys of organizations lie in the store, each wrapped by the installation's key, as `keys/ORGANIZATION/ID`. Two servers may each make one for a new organization: all that is there are good for reading, by
 * the id that every manifest names, and the first by its id is used for writing. So the store needs no conditional writes.
 *
 * Without its key all of an organization is lost: the same bytes lie at `key-copies/ORGANIZATION/ID` as well, and what is missing or damaged in one of the two places is made again from the other.
 */
export class OrganizationKeys {
  readonly #objects: ObjectStore;
  readonly #installationKey: Buffer;
  readonly #known = new Map<string, KnownKey>();

  constructor(objects: ObjectStore, installationKey: Buffer) {
    this.#objects = objects;
    this.#installationKey = deriveKey(installationKey, "organizations");
  }

  /** The key to write with; made when there is none. It is in both places when this resolves. */
  async forWriting(organizationId: string, signal?: AbortSignal): Promise<OrganizationKey> {
    const id = (await this.#firstId(organizationId, signal)) ?? (await this.#make(organizationId, signal));
    const key = await this.get(organizationId, id, signal);
    await this.#keepBoth(organizationId, id, signal);
    return key;
  }

  async get(organizationId: string, id: string, signal?: AbortSignal): Promise<OrganizationKey> {
    const name = nameOf(organizationId, id);
    const known = this.#known.get(name);
    if (known !== undefined) return known.key;
    const wrapped = await this.#objects.get(name, OBJECT_BYTES_MAX, signal);
    const found = this.#unwrap(name, wrapped) ?? (await this.#fromCopy(organizationId, id, signal));
    if (found === null)
      throw unreadable(
        name,
        wrapped === null ? "it is missing from the store" : "the key of this installation does not fit it",
      );
    this.#known.set(name, found);
    return found.key;
  }

  async #fromCopy(organizationId: string, id: string, signal?: AbortSignal): Promise<KnownKey | null> {
    const copy = await this.#objects.get(copyOf(organizationId, id), OBJECT_BYTES_MAX, signal);
    return this.#unwrap(nameOf(organizationId, id), copy);
  }

  /** Null: there is none, or it is damaged. */
  #unwrap(name: string, wrapped: Buffer | null): KnownKey | null {
    if (wrapped === null) return null;
    try {
      const id = name.slice(name.lastIndexOf("/") + 1);
      return { key: organizationKey(id, unseal(this.#installationKey, name, wrapped)), wrapped };
    } catch {
      return null;
    }
  }

  async #make(organizationId: string, signal?: AbortSignal): Promise<string> {
    const id = randomBytes(8).toString("hex");
    const name = nameOf(organizationId, id);
    await this.#objects.put(name, seal(this.#installationKey, name, randomBytes(KEY_BYTES)), signal);
    // Perhaps another server's.
    const made = await this.#firstId(organizationId, signal);
    if (made !== null) return made;
    throw new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", `The snapshot store lost the key ${name} that it had stored`);
  }

  /** Makes again what is missing or damaged in one of the two places. */
  async #keepBoth(organizationId: string, id: string, signal?: AbortSignal): Promise<void> {
    const known = this.#known.get(nameOf(organizationId, id));
    for (const name of [nameOf(organizationId, id), copyOf(organizationId, id)]) {
      if (known === undefined) return;
      const wrapped = await this.#objects.get(name, OBJECT_BYTES_MAX, signal);
      if (wrapped === null || !wrapped.equals(known.wrapped)) await this.#objects.put(name, known.wrapped, signal);
    }
  }

  /** The lowest id of the organization's keys, of those in either place. */
  async #firstId(organizationId: string, signal?: AbortSignal): Promise<string | null> {
    const ids: string[] = [];
    for (const folder of ["keys", "key-copies"])
      for await (const { key } of this.#objects.list(`${folder}/${organizationId}/`, signal))
        ids.push(key.slice(key.lastIndexOf("/") + 1));
    return ids.filter((id) => /^[0-9a-f]{16}$/.test(id)).sort()[0] ?? null;
  }
}

interface KnownKey {
  readonly key: OrganizationKey;
  /** As it lies in the store. */
  readonly wrapped: Buffer;
}

function organizationKey(id: string, key: Buffer): OrganizationKey {
  const naming = deriveKey(key, "chunk ids");
  const sealing = deriveKey(key, "contents");
  return {
    id,
    chunkId: (sha256) => createHmac("sha256", naming).update(sha256).digest("hex"),
    seal: (name, bytes) => seal(deriveKey(sealing, name), name, bytes),
    unseal: (name, sealed) => unseal(deriveKey(sealing, name), name, sealed),
  };
}

function nameOf(organizationId: string, id: string): string {
  return `keys/${organizationId}/${id}`;
}

function copyOf(organizationId: string, id: string): string {
  return `key-copies/${organizationId}/${id}`;
}

function unreadable(name: string, reason: string): CaissonError {
  return new UnreadableKeyError(
    `Cannot read ${name} of the snapshot store, nor its copy: ${reason}. Give the server the installation key that the store was made with`,
  );
}
