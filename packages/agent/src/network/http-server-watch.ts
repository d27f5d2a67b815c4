import { startTimer } from "../host/timers.ts";
import type { SandboxProcess } from "../processes/process-table.ts";
import { EndedPids } from "./ended-pids.ts";
import { ListenerSearch } from "./listener-search.ts";
import type { ListeningAddress } from "./tcp-address.ts";

const SHORTEST_INTERVAL_MS = 4;
const LONGEST_INTERVAL_MS = 100;
/** A look comes at the latest after this share of the time since the process was last seen to do something. */
const INTERVAL_SHARE = 0.01;

const watches = new Map<number, HttpServerWatch>();
const endedListeners = new EndedPids();

/**
 * Waits for the HTTP server of a process, whichever way it was made. The kernel announces no listening socket, so it is looked for: every
 * 4 ms at first, when servers start, and more and more rarely the longer none comes. Nothing is done until somebody asks.
 */
export class HttpServerWatch {
  readonly #process: SandboxProcess;
  readonly #listeners: ListenerSearch;
  #activeSince = performance.now();
  #listening: Promise<boolean> | undefined;
  #search: Promise<ListeningAddress | undefined> | undefined;
  #hasEnded = false;
  #wake: () => void = () => undefined;

  private constructor(process: SandboxProcess) {
    this.#process = process;
    this.#listeners = new ListenerSearch(process.osPid);
    this.#hasEnded = !process.isRunning;
    void process.exited.then(() => this.#end());
  }

  static of(process: SandboxProcess): HttpServerWatch {
    const watch = watches.get(process.pid) ?? new HttpServerWatch(process);
    watches.set(process.pid, watch);
    return watch;
  }

  /** True once the process has listened, false when it ended without. */
  get listening(): Promise<boolean> {
    this.#listening ??= this.#process.isRunning
      ? this.address().then((address) => address !== undefined)
      : Promise.resolve(endedListeners.has(this.#process.pid));
    return this.#listening;
  }

  /** Where it listens, as soon as it does; undefined when it ends without. */
  address(): Promise<ListeningAddress | undefined> {
    this.#search ??= this.#find().finally(() => {
      this.#search = undefined;
    });
    return this.#search;
  }

  /** Where it listens at this moment, if it does. */
  current(): ListeningAddress | undefined {
    return this.#hasEnded ? undefined : this.#listeners.find();
  }

  /** Says that a server may come up soon. */
  expect(): void {
    this.#activeSince = performance.now();
    this.#wake();
  }

  async #find(): Promise<ListeningAddress | undefined> {
    while (!this.#hasEnded) {
      const address = this.#listeners.find();
      if (address !== undefined) return address;
      const share = (performance.now() - this.#activeSince) * INTERVAL_SHARE;
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancel = startTimer(Math.min(Math.max(share, SHORTEST_INTERVAL_MS), LONGEST_INTERVAL_MS), resolve);
      this.#wake = resolve;
      await promise;
      cancel();
    }
    return undefined;
  }

  async #end(): Promise<void> {
    this.#hasEnded = true;
    this.#wake();
    watches.delete(this.#process.pid);
    if (await this.#listening) endedListeners.add(this.#process.pid);
  }
}
