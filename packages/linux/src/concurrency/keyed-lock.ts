/** Runs tasks that name the same key one after the other, in the order in which they asked, and others side by side. A task may name several. */
export class KeyedLock {
  readonly #last = new Map<string, Promise<void>>();

  async run<T>(names: string | readonly string[], task: () => Promise<T>): Promise<T> {
    const keys = typeof names === "string" ? [names] : names;
    const waits = keys.map((key) => this.#last.get(key));
    const done = Promise.withResolvers<void>();
    // All keys are taken in one go, without a wait in between, so that two tasks can never hold what the other one wants.
    for (const key of keys) this.#last.set(key, done.promise);
    try {
      await Promise.all(waits);
      return await task();
    } finally {
      done.resolve();
      for (const key of keys) if (this.#last.get(key) === done.promise) this.#last.delete(key);
    }
  }

  /** Resolves when no task runs or waits. */
  async idle(): Promise<void> {
    while (this.#last.size > 0) await Promise.all(this.#last.values());
  }
}
