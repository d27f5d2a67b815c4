import type { Preview } from "./preview.ts";

export interface TrafficLimits {
  readonly connectionsPerSandbox: number;
  readonly requestsPerSecond: number;
}

/** How many seconds of its rate a sandbox that was idle may get at once. */
const BURST_SECONDS = 5;

/** What goes through the previews of one sandbox at a time, and how often: one sandbox must not take the listener from the others. */
export class SandboxTraffic {
  readonly #limits: TrafficLimits;
  readonly #open = new Map<() => void, Preview>();
  #allowance: number;
  #countedMs = performance.now();

  constructor(limits: TrafficLimits) {
    this.#limits = limits;
    this.#allowance = limits.requestsPerSecond * BURST_SECONDS;
  }

  /** Counts a request, which `end` breaks off. Returns what is called when it is over; or why it is refused. */
  begin(preview: Preview, end: () => void): (() => void) | "too-many-connections" | "too-many-requests" {
    if (this.#open.size >= this.#limits.connectionsPerSandbox) return "too-many-connections";
    if (!this.#takeAllowance()) return "too-many-requests";
    this.#open.set(end, preview);
    return () => {
      this.#open.delete(end);
    };
  }

  endAll(preview: Preview): void {
    for (const [end, owner] of [...this.#open]) if (owner === preview) end();
  }

  #takeAllowance(): boolean {
    const { requestsPerSecond } = this.#limits;
    const nowMs = performance.now();
    const gained = ((nowMs - this.#countedMs) / 1000) * requestsPerSecond;
    this.#allowance = Math.min(requestsPerSecond * BURST_SECONDS, this.#allowance + gained);
    this.#countedMs = nowMs;
    if (this.#allowance < 1) return false;
    this.#allowance -= 1;
    return true;
  }
}
