import { FAILURES_BURST, FAILURES_PER_SECOND, STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX } from "./limits.ts";

const SWEEP_MS = 1_000;

interface Address {
  strangers: number;
  failures: number;
  countedMs: number;
}

/** What those who have not logged in may cost: connections at a time, and failures over time. */
export class AddressLimits {
  readonly #byAddress = new Map<string, Address>();
  readonly #now: () => number;
  #strangers = 0;
  #sweptMs = 0;

  /** `now`: milliseconds that only go forward. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Counts a connection. Null: it may not be; else what is called when it logs in or ends, and says which. */
  enter(address: string): ((hasLoggedIn: boolean) => void) | null {
    const key = networkOf(address);
    const entry = this.#entry(key);
    const isRefused =
      this.#strangers >= STRANGERS_MAX ||
      entry.strangers >= STRANGERS_PER_ADDRESS_MAX ||
      entry.failures >= FAILURES_BURST;
    if (isRefused) return null;
    this.#strangers += 1;
    entry.strangers += 1;
    let isOver = false;
    return (hasLoggedIn) => {
      if (isOver) return;
      isOver = true;
      this.#strangers -= 1;
      entry.strangers -= 1;
      this.#forgive(entry);
      if (!hasLoggedIn) entry.failures += 1;
      if (entry.strangers === 0 && entry.failures === 0) this.#byAddress.delete(key);
    };
  }

  #entry(key: string): Address {
    const known = this.#byAddress.get(key);
    if (known !== undefined) {
      this.#forgive(known);
      return known;
    }
    this.#forgetForgiven();
    const entry = { strangers: 0, failures: 0, countedMs: this.#now() };
    this.#byAddress.set(key, entry);
    return entry;
  }

  #forgive(entry: Address): void {
    const nowMs = this.#now();
    entry.failures = Math.max(0, entry.failures - ((nowMs - entry.countedMs) / 1000) * FAILURES_PER_SECOND);
    entry.countedMs = nowMs;
  }

  /** Addresses whose failures are long ago must not gather. */
  #forgetForgiven(): void {
    if (this.#now() - this.#sweptMs < SWEEP_MS) return;
    this.#sweptMs = this.#now();
    for (const [key, entry] of this.#byAddress) {
      this.#forgive(entry);
      if (entry.strangers === 0 && entry.failures === 0) this.#byAddress.delete(key);
    }
  }
}

/** One host may have a whole network of IPv6 addresses. */
function networkOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, "");
  return plain.includes(":") ? plain.split(":").slice(0, 4).join(":") : plain;
}
