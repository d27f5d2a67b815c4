import type { ImageId } from "../../driver.ts";

/** Images that others are being made from, however many at once. What would take their blocks away waits for that. */
export class CloneSources {
  readonly #uses = new Map<ImageId, Set<Promise<void>>>();

  async use<T>(id: ImageId, work: () => Promise<T>): Promise<T> {
    const uses = this.#uses.get(id) ?? new Set();
    this.#uses.set(id, uses);
    const done = Promise.withResolvers<void>();
    uses.add(done.promise);
    try {
      return await work();
    } finally {
      uses.delete(done.promise);
      if (uses.size === 0) this.#uses.delete(id);
      done.resolve();
    }
  }

  /** Resolves when every use that has begun is over. */
  async unused(id: ImageId): Promise<void> {
    await Promise.all(this.#uses.get(id) ?? []);
  }
}
