const MIB = 1024 * 1024;
/** The part of the sandbox's memory that one budget of bytes is: what the user's programs need is worth more. */
const MEMORY_SHARE = 1 / 16;
const SMALLEST_BYTES = 16 * MIB;
const LARGEST_BYTES = 128 * MIB;

interface Waiter {
  readonly amount: number;
  readonly go: () => void;
}

/**
 * Something that those who share it may hold so much of at a time, such as bytes of memory. Those that wait are served in the order in which
 * they came, so none is passed over; one that asks for more than there is gets it when it is alone.
 */
export class Budget {
  readonly #limit: number;
  #taken = 0;
  #waiters: Waiter[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes what is free now; false when that is too little. */
  tryTake(amount: number): boolean {
    if (this.#waiters.length > 0 || this.#taken + amount > this.#limit) return false;
    this.#taken += amount;
    return true;
  }

  /** Resolves when the amount is taken. */
  async take(amount: number): Promise<void> {
    await new Promise<void>((go) => {
      this.#waiters.push({ amount, go });
      this.#serve();
    });
  }

  give(amount: number): void {
    this.#taken -= amount;
    this.#serve();
  }

  #serve(): void {
    for (let next = this.#waiters[0]; next !== undefined; next = this.#waiters[0]) {
      if (this.#taken > 0 && this.#taken + next.amount > this.#limit) return;
      this.#waiters.shift();
      this.#taken += next.amount;
      next.go();
    }
  }
}

/** The size of one budget of bytes in a sandbox with this much memory; null where the host shows no limit. */
export function budgetBytes(memoryLimitBytes: number | null): number {
  return Math.min(
    Math.max((memoryLimitBytes ?? Number.POSITIVE_INFINITY) * MEMORY_SHARE, SMALLEST_BYTES),
    LARGEST_BYTES,
  );
}
