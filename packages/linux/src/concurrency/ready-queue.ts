/** More at a time would only compete for the processor with the sandboxes that are starting. */
const CONCURRENCY = 2;

/** A little more than the start of a sandbox takes. */
const REFILL_DELAY_MS = 100;

interface Waiter<T> {
  resolve(item: T): void;
  reject(error: unknown): void;
}

/**
 * Keeps `size` items ready, from the call of `fill` on, and makes new ones in the background. An item that was taken belongs to the caller.
 */
export class ReadyQueue<T extends AsyncDisposable> implements AsyncDisposable {
  readonly #make: () => Promise<T>;
  readonly #size: number;
  readonly #ready: T[] = [];
  readonly #waiting: Waiter<T>[] = [];
  readonly #making = new Set<Promise<void>>();
  #refillTimer: NodeJS.Timeout | null = null;
  #isFilling = false;
  #isClosed = false;

  constructor(size: number, make: () => Promise<T>) {
    this.#size = size;
    this.#make = make;
  }

  /** Begins to make items ready. A failure here is not lost: the next `take` meets it itself. */
  fill(): void {
    this.#isFilling = true;
    this.#refill();
  }

  /** Takes an item, or waits for the next one. */
  async take(signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const ready = this.#ready.shift();
    if (ready !== undefined) {
      this.#refillLater();
      return ready;
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const waiter = { resolve, reject };
    this.#waiting.push(waiter);
    const abort = (): void => {
      const index = this.#waiting.indexOf(waiter);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
    this.#refill();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends what is ready and waits for what is being made. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    if (this.#refillTimer !== null) clearTimeout(this.#refillTimer);
    for (const { reject } of this.#waiting.splice(0)) reject(new Error("The queue is closing"));
    await Promise.all(this.#making);
    await Promise.all(this.#ready.splice(0).map((item) => item[Symbol.asyncDispose]()));
  }

  /** Leaves the processor to the sandbox that is starting right now. */
  #refillLater(): void {
    if (this.#isClosed) return;
    if (this.#refillTimer !== null) clearTimeout(this.#refillTimer);
    this.#refillTimer = setTimeout(() => {
      this.#refillTimer = null;
      this.#refill();
    }, REFILL_DELAY_MS);
    this.#refillTimer.unref();
  }

  #refill(): void {
    while (!this.#isClosed && this.#making.size < CONCURRENCY && this.#wanted() > this.#making.size) {
      const making = this.#make().then(
        (item) => {
          this.#making.delete(making);
          this.#deliver(item);
          this.#refill();
        },
        (error: unknown) => {
          this.#making.delete(making);
          this.#fail(error);
        },
      );
      this.#making.add(making);
    }
  }

  #wanted(): number {
    return this.#waiting.length + (this.#isFilling ? this.#size : 0) - this.#ready.length;
  }

  #deliver(item: T): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#ready.push(item);
    else waiter.resolve(item);
  }

  /**
   * The caller that waits longest learns the reason, unless enough other items are being made for all callers: one of them may have got what this one
   * lacked. When no caller waits, the next one to ask tries again and learns it then.
   */
  #fail(error: unknown): void {
    if (this.#waiting.length <= this.#making.size) return;
    this.#waiting.shift()?.reject(error);
    // Only a caller for whom nothing is being made is a reason to try again at once.
    if (this.#waiting.length > this.#making.size) this.#refill();
  }
}
