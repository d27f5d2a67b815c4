import { findListeningAddress, type ListeningAddress } from "./listening-address.ts";
import type { SandboxProcess } from "./process-table.ts";

const SHORTEST_INTERVAL_MS = 2;
const LONGEST_INTERVAL_MS = 100;
/** A look comes at the latest after this share of the time since the process was last seen to do something. */
const INTERVAL_SHARE = 0.01;

const watches = new WeakMap<SandboxProcess, HttpServerWatch>();

/**
 * Waits for the HTTP server of a process, whichever way it was made. The kernel announces no listening socket, so it is looked for: every
 * 2 ms at first, when servers start, and more and more rarely the longer none comes. Looking costs 0.1 ms or less. Nothing is done until
 * somebody asks.
 */
export class HttpServerWatch {
  readonly #process: SandboxProcess;
  #activeSince = performance.now();
  #listening: Promise<boolean> | undefined;
  #wake: () => void = () => undefined;

  private constructor(process: SandboxProcess) {
    this.#process = process;
  }

  static of(process: SandboxProcess): HttpServerWatch {
    const watch = watches.get(process) ?? new HttpServerWatch(process);
    watches.set(process, watch);
    return watch;
  }

  /** True once the process has listened, false when it ended without. */
  get listening(): Promise<boolean> {
    this.#listening ??= this.#watch();
    return this.#listening;
  }

  /** Where it listens at the moment. */
  address(): ListeningAddress | undefined {
    return this.#process.isRunning ? findListeningAddress(this.#process.osPid) : undefined;
  }

  /** Says that a server may come up soon. */
  expect(): void {
    this.#activeSince = performance.now();
    this.#wake();
  }

  async #watch(): Promise<boolean> {
    void this.#process.exited.then(() => this.#wake());
    while (this.#process.isRunning) {
      if (this.address() !== undefined) return true;
      const share = (performance.now() - this.#activeSince) * INTERVAL_SHARE;
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, Math.min(Math.max(share, SHORTEST_INTERVAL_MS), LONGEST_INTERVAL_MS));
      this.#wake = resolve;
      await promise;
      clearTimeout(timer);
    }
    return false;
  }
}
