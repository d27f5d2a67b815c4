interface Waiter {
  readonly bytes: number;
  readonly go: () => void;
}

/** Memory that those who share it may hold so much of at a time. Those that wait are served in the order in which they came. */
export class ByteBudget {
  readonly #maxBytes: number;
  #taken = 0;
  readonly #waiters = new Set<Waiter>();

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Resolves when the bytes are taken, until what it returns is disposed of. Rejects with the signal's reason. `bytes` is at most the whole. */
  async take(bytes: number, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    const { promise, resolve: go, reject } = Promise.withResolvers<void>();
    const waiter = { bytes, go };
    const giveUp = (): void => {
      if (!this.#waiters.delete(waiter)) return;
      reject(signal.reason);
      this.#serve();
    };
    signal.addEventListener("abort", giveUp);
    this.#waiters.add(waiter);
    this.#serve();
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#taken -= bytes;
        isHeld = false;
        this.#serve();
      },
    };
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      if (this.#taken + waiter.bytes > this.#maxBytes) return;
      this.#waiters.delete(waiter);
      this.#taken += waiter.bytes;
      waiter.go();
    }
  }
}
