import type { ObjectStore } from "@caisson/objects";
import { listDamagedChunks } from "./damaged-chunks.ts";
import type { OrganizationKey } from "./organization-keys.ts";
import { listChunkSizes } from "./store-chunks.ts";

/** What lists tell of an organization's chunks, each read once, when it is asked for first. */
export class ChunkLists {
  readonly organizationId: string;
  readonly #objects: ObjectStore;
  readonly #sizes = new Map<string, Promise<ReadonlyMap<string, number>>>();
  #damaged: Promise<ReadonlySet<string>> | null = null;

  constructor(objects: ObjectStore, organizationId: string) {
    this.#objects = objects;
    this.organizationId = organizationId;
  }

  /** Names of those that somebody could not read. */
  damaged(signal: AbortSignal): Promise<ReadonlySet<string>> {
    this.#damaged ??= listDamagedChunks(this.#objects, this.organizationId, signal);
    return this.#damaged;
  }

  /** The lengths of those that the key has named, by name. */
  sizes(key: OrganizationKey, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const { organizationId } = this;
    const sizes = this.#sizes.get(key.id) ?? listChunkSizes({ objects: this.#objects, organizationId, key }, signal);
    this.#sizes.set(key.id, sizes);
    return sizes;
  }
}
