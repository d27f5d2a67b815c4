import { createHmac, randomBytes } from "node:crypto";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { deriveKey, seal, unseal } from "./sealed-bytes.ts";

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
 */
export class OrganizationKeys {
  readonly #objects: ObjectStore;
  readonly #installationKey: Buffer;
  readonly #known = new Map<string, OrganizationKey>();

  constructor(objects: ObjectStore, installationKey: Buffer) {
    this.#objects = objects;
    this.#installationKey = deriveKey(installationKey, "organizations");
  }

  /** The key to write with; made when there is none. */
  async forWriting(organizationId: string, signal?: AbortSignal): Promise<OrganizationKey> {
    const first = await this.#first(organizationId, signal);
    if (first !== null) return first;
    const id = randomBytes(8).toString("hex");
    const name = nameOf(organizationId, id);
    await this.#objects.put(name, seal(this.#installationKey, name, randomBytes(KEY_BYTES)), signal);
    // Perhaps another server's.
    const made = await this.#first(organizationId, signal);
    if (made === null)
      throw new CaissonError(
        "SNAPSHOT_STORE_UNAVAILABLE",
        `The snapshot store lost the key ${name} that it had stored`,
      );
    return made;
  }

  async get(organizationId: string, id: string, signal?: AbortSignal): Promise<OrganizationKey> {
    const name = nameOf(organizationId, id);
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const wrapped = await this.#objects.get(name, OBJECT_BYTES_MAX, signal);
    if (wrapped === null) throw unreadable(name, "it is missing from the store");
    let key: Buffer;
    try {
      key = unseal(this.#installationKey, name, wrapped);
    } catch (cause) {
      throw unreadable(name, "the key of this installation does not fit it", cause);
    }
    const found = organizationKey(id, key);
    this.#known.set(name, found);
    return found;
  }

  async #first(organizationId: string, signal?: AbortSignal): Promise<OrganizationKey | null> {
    const keys = await Array.fromAsync(this.#objects.list(`keys/${organizationId}/`, signal), ({ key }) => key);
    const [first] = keys.filter((key) => /\/[0-9a-f]{16}$/.test(key)).sort();
    return first === undefined ? null : this.get(organizationId, first.slice(first.lastIndexOf("/") + 1), signal);
  }
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

function unreadable(name: string, reason: string, cause?: unknown): CaissonError {
  return new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    `Cannot read ${name} of the snapshot store: ${reason}. Give the server the installation key that the store was made with`,
    { cause },
  );
}
