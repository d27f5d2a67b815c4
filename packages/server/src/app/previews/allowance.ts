/** How many seconds of the rate may be used at once after a quiet time. */
const BURST_SECONDS = 5;

/** So many a second, of whatever it counts. */
export class Allowance {
  readonly #perSecond: number;
  #left: number;
  #countedMs = performance.now();

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#left = perSecond * BURST_SECONDS;
  }

  /** Uses one up; false when none is left. */
  take(): boolean {
    const nowMs = performance.now();
    const gained = ((nowMs - this.#countedMs) / 1000) * this.#perSecond;
    this.#left = Math.min(this.#perSecond * BURST_SECONDS, this.#left + gained);
    this.#countedMs = nowMs;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
