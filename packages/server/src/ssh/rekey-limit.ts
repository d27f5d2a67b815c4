import { REKEYS_BURST, REKEYS_PER_SECOND } from "./limits.ts";

/** How often one client may exchange keys anew. */
export class RekeyLimit {
  readonly #now: () => number;
  #count = 0;
  #countedMs: number;

  /** `now`: milliseconds that only go forward. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#countedMs = now();
  }

  /** Counts one exchange. False: it is one too many. */
  take(): boolean {
    const nowMs = this.#now();
    this.#count = Math.max(0, this.#count - ((nowMs - this.#countedMs) / 1000) * REKEYS_PER_SECOND) + 1;
    this.#countedMs = nowMs;
    return this.#count <= REKEYS_BURST;
  }
}
