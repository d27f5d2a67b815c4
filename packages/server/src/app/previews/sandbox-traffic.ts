import { Allowance } from "./allowance.ts";
import type { Preview } from "./preview.ts";

export interface TrafficLimits {
  readonly connectionsPerSandbox: number;
  readonly requestsPerSecond: number;
}

/** What goes through the previews of one sandbox at a time, and how often: one sandbox must not take the listener from the others. */
export class SandboxTraffic {
  readonly #limits: TrafficLimits;
  readonly #open = new Map<() => void, Preview>();
  readonly #requests: Allowance;

  constructor(limits: TrafficLimits) {
    this.#limits = limits;
    this.#requests = new Allowance(limits.requestsPerSecond);
  }

  /** Counts a request, which `end` breaks off. Returns what is called when it is over; or why it is refused. */
  begin(preview: Preview, end: () => void): (() => void) | "too-many-connections" | "too-many-requests" {
    if (this.#open.size >= this.#limits.connectionsPerSandbox) return "too-many-connections";
    if (!this.#requests.take()) return "too-many-requests";
    this.#open.set(end, preview);
    return () => {
      this.#open.delete(end);
    };
  }

  endAll(preview: Preview): void {
    for (const [end, owner] of [...this.#open]) if (owner === preview) end();
  }
}
