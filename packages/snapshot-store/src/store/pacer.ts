import { setTimeout as delay } from "node:timers/promises";

/** Lets bytes pass at a bounded rate, whoever asks. */
export class Pacer {
  readonly #bytesPerSecond: number | null;
  #freeAtMs = 0;

  /** Null: as fast as it goes. */
  constructor(bytesPerSecond: number | null) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when so many bytes may pass. */
  async pass(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === null) return;
    const nowMs = performance.now();
    const startMs = Math.max(nowMs, this.#freeAtMs);
    this.#freeAtMs = startMs + (bytes / this.#bytesPerSecond) * 1000;
    if (startMs > nowMs) await delay(startMs - nowMs, undefined, signal === undefined ? {} : { signal });
  }
}
