import { haltsWhenIdle, keepProcessorsAwake, readFlushCounts } from "@caisson/linux";

const PERIOD_MS = 50;
/** Fewer than this in a period, and what they wait for matters less than what staying awake costs: 500 each second. */
const MINIMUM_FLUSHES = 25;

export interface SyncedWriteWatchOptions {
  /** Told about a failure. The next period tries again. */
  readonly onError: (error: unknown) => void;
  /** Flushes in 50 ms from which on processors are kept awake. Default: 25. Tests on a busy machine take fewer. */
  readonly minimumFlushes?: number;
  /** For tests. */
  readonly keepAwake?: () => Promise<AsyncDisposable | null>;
  /** For tests: what each look asks. */
  readonly readCounts?: () => Promise<ReadonlyMap<string, number>>;
}

/**
 * Keeps the processors of a virtual machine awake while volumes are written with many syncs. A synced write is handed over some eight times
 * between processes and the kernel's workers, each of which waits for a halted processor to wake: that is most of its time
 * (docs/adr/0001-stacked-file-systems.md). The devices' own counters tell when it pays, so quiet volumes cost nothing but a look at them.
 */
export class SyncedWriteWatch {
  /** Flushes so far, by device; `null` until the first look. */
  readonly #devices = new Map<string, number | null>();
  readonly #options: Required<SyncedWriteWatchOptions>;
  #request: AsyncDisposable | null = null;
  #timer: NodeJS.Timeout | null = null;
  #look: Promise<void> = Promise.resolve();

  constructor(options: SyncedWriteWatchOptions) {
    this.#options = {
      keepAwake: keepProcessorsAwake,
      readCounts: readFlushCounts,
      minimumFlushes: MINIMUM_FLUSHES,
      ...options,
    };
  }

  /** A watch where it can help: on machines whose processors halt. */
  static async open(options: SyncedWriteWatchOptions): Promise<SyncedWriteWatch | null> {
    return (await haltsWhenIdle()) ? new SyncedWriteWatch(options) : null;
  }

  add(device: string): void {
    this.#devices.set(device, null);
    this.#schedule();
  }

  remove(device: string): void {
    this.#devices.delete(device);
  }

  async close(): Promise<void> {
    this.#devices.clear();
    await this.#look;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    await this.#request?.[Symbol.asyncDispose]();
    this.#request = null;
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => {
      this.#look = this.#adjust()
        .catch(this.#options.onError)
        .finally(() => {
          this.#timer = null;
          if (this.#devices.size > 0 || this.#request !== null) this.#schedule();
        });
    }, PERIOD_MS).unref();
  }

  async #adjust(): Promise<void> {
    const isBusy = (await this.#countFlushes()) >= this.#options.minimumFlushes;
    if (isBusy) {
      this.#request ??= await this.#options.keepAwake();
      return;
    }
    const request = this.#request;
    this.#request = null;
    await request?.[Symbol.asyncDispose]();
  }

  /** Flushes of the watched devices since the last look. */
  async #countFlushes(): Promise<number> {
    if (this.#devices.size === 0) return 0;
    const counts = await this.#options.readCounts();
    let flushes = 0;
    for (const [device, before] of this.#devices) {
      const now = counts.get(device) ?? 0;
      if (before !== null) flushes += Math.max(0, now - before);
      this.#devices.set(device, now);
    }
    return flushes;
  }
}
