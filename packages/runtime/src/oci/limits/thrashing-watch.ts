import { setInterval } from "node:timers/promises";
import type { MemoryUse } from "@caisson/linux";

const INTERVAL_MS = 5_000;
/** Of the time, in which all programs of the sandbox waited for memory. */
const STALLED_PART = 0.4;
/** Of the memory, that is left for files, which includes the code of programs. */
const FILE_PART = 1 / 32;
const PAGE_BYTES = 4096;
/** How often each page that is there has been read again between two looks. */
const REFAULTS_EACH = 8;

/** How the watch sees a sandbox, and what it does about it. */
export interface WatchedMemory {
  readonly memoryBytes: number;
  /** See `readMemoryStallUs`. */
  stallUs(): Promise<number | null>;
  /** See `readMemoryUse`. */
  use(): Promise<MemoryUse | null>;
  /** See `endProcessForMemory`. */
  endProcess(): Promise<void>;
}

export interface ThrashingWatchOptions {
  readonly onFailure: (error: unknown) => void;
  /** Default: 5 seconds. */
  readonly intervalMs?: number;
}

/**
 * Has a process of a sandbox ended that needs all memory but what is left for a few pages of code. The kernel ends processes only when it can
 * take nothing back, and it can always take back a page of code, which the program reads again at once and takes another one for: seen on
 * Linux 6.1, a program that wanted more and more memory stood so for ten minutes, with its whole sandbox. Ends it within three looks.
 */
export class ThrashingWatch implements AsyncDisposable {
  readonly #memory: WatchedMemory;
  readonly #onFailure: (error: unknown) => void;
  readonly #closing = new AbortController();
  readonly #watching: Promise<void>;
  #stallUs: number | null = null;
  #lookedMs = 0;
  /** As the last look found it, if that was bad. */
  #badUse: MemoryUse | null = null;

  constructor(memory: WatchedMemory, { onFailure, intervalMs = INTERVAL_MS }: ThrashingWatchOptions) {
    this.#memory = memory;
    this.#onFailure = onFailure;
    this.#watching = this.#watch(intervalMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#watching;
  }

  async #watch(intervalMs: number): Promise<void> {
    const { signal } = this.#closing;
    try {
      for await (const _ of setInterval(intervalMs, undefined, { signal, ref: false })) {
        await this.#look().catch(this.#onFailure);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #look(): Promise<void> {
    const earlier = this.#badUse;
    this.#badUse = null;
    if (!(await this.#isStalled())) return;
    const use = await this.#memory.use();
    if (use === null || !this.#isFull(use)) return;
    if (earlier === null || !isReadingAgain(earlier, use)) {
      this.#badUse = use;
      return;
    }
    await this.#memory.endProcess();
  }

  /** Cheap, because it is asked of every sandbox all the time. */
  async #isStalled(): Promise<boolean> {
    const [earlierUs, earlierMs] = [this.#stallUs, this.#lookedMs];
    this.#stallUs = await this.#memory.stallUs();
    this.#lookedMs = performance.now();
    if (earlierUs === null || this.#stallUs === null) return false;
    return (this.#stallUs - earlierUs) / 1000 > STALLED_PART * (this.#lookedMs - earlierMs);
  }

  #isFull({ usageBytes, fileBytes }: MemoryUse): boolean {
    const { memoryBytes } = this.#memory;
    return usageBytes - fileBytes > memoryBytes * (1 - 2 * FILE_PART) && fileBytes < memoryBytes * FILE_PART;
  }
}

/** A sandbox that waits for its own writes is stalled too, and gets on all the same. */
function isReadingAgain(earlier: MemoryUse, now: MemoryUse): boolean {
  return now.refaultCount - earlier.refaultCount > (REFAULTS_EACH * now.fileBytes) / PAGE_BYTES;
}
