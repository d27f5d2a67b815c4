import type { StorageDriver } from "@caisson/storage";
import type { NodeLogger } from "../node-logger.ts";
import { lackingBytes, needsRoom } from "./pool-room.ts";

/** Something in the pool that makes work faster and can be made again, such as spare clones. */
export interface Evictable {
  /** For the log, for example `spare clones`. */
  readonly name: string;
  /** Frees about that many bytes, or all that there is, the least useful first. Nothing there is success. It runs alone. */
  evict(bytes: number): Promise<void>;
}

/** What goes first when one pool needs room. */
export class Evictables {
  readonly #evictables: Evictable[] = [];
  #evicting: Promise<void> | null = null;

  /** What is registered first is evicted first. */
  register(evictable: Evictable): void {
    this.#evictables.push(evictable);
  }

  /** Frees what can be made again, until the pool has room. It joins an eviction that is under way. */
  evict(storage: Pick<StorageDriver, "capacity">, logger: NodeLogger): Promise<void> {
    this.#evicting ??= this.#evict(storage, logger).finally(() => {
      this.#evicting = null;
    });
    return this.#evicting;
  }

  async #evict(storage: Pick<StorageDriver, "capacity">, logger: NodeLogger): Promise<void> {
    for (const evictable of this.#evictables) {
      const capacity = await storage.capacity();
      if (!needsRoom(capacity)) return;
      const { name } = evictable;
      await evictable
        .evict(lackingBytes(capacity))
        .catch((error: unknown) => logger.warn({ err: error, name }, "cannot evict what can be made again"));
    }
  }
}
