import { setTimeout as delay } from "node:timers/promises";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { heapMib } from "../agent/environment.ts";
import type { WarmState } from "./warm-container.ts";

/** A little more than the start of a sandbox takes: its processor is not for a refill. */
const REFILL_DELAY_MS = 100;
/** Where creates follow each other that fast, a refill is as urgent as they are. */
const REFILL_DELAY_MAX_MS = 1_000;
const FAILURES_MAX = 3;
const PAUSE_MS = 10 * 60_000;
const RETRY_MS = 1_000;

/** What the pool has to know of a container. */
export interface PooledContainer extends AsyncDisposable {
  readonly memoryBytes: number;
  readonly state: WarmState;
  /** Resolves when it is gone. */
  readonly ended: Promise<void>;
}

export interface WarmPoolOptions<Container extends PooledContainer> {
  /** Containers that wait. */
  readonly count: number;
  /** The memory of sandboxes before the first one has said what it wants. */
  readonly memoryBytes: number;
  readonly make: (memoryBytes: number) => Container;
  readonly prepare: (container: Container, signal: AbortSignal) => Promise<void>;
  /** Whether a container may still become a sandbox. */
  readonly isUpToDate: (container: Container) => boolean;
  readonly warn: (error: unknown, message: string) => void;
}

/**
 * The containers that wait. They are for the memory of the latest creates, because an agent's heap is fixed when it starts: a create that finds none of
 * its size starts cold, and the next finds one.
 *
 * One is prepared at a time, some time after the latest create. One that dies is replaced. What cannot be undone is tried again until it can. Three failures
 * in a row, of preparations or of creates that a cold start then served, pause it: everything starts cold for ten minutes. Then one is prepared again, and one
 * more failure is another pause.
 */
export class WarmPool<Container extends PooledContainer> implements AsyncDisposable {
  readonly #options: WarmPoolOptions<Container>;
  readonly #waiting: Container[] = [];
  /** The memory of the latest creates, the last one first. */
  readonly #wanted: number[];
  readonly #closing = new AbortController();
  readonly #discards = new Set<Promise<void>>();
  #filling: Promise<void> | null = null;
  #preparing: Promise<boolean> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #firstTakeMs = 0;
  #failureCount = 0;
  /** Runs while everything starts cold after failures. */
  #pause: NodeJS.Timeout | null = null;

  constructor(options: WarmPoolOptions<Container>) {
    this.#options = options;
    this.#wanted = new Array(options.count).fill(options.memoryBytes);
  }

  /** Begins to prepare. */
  fill(): void {
    if (this.#isOver()) return;
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = null;
    });
  }

  /** Resolves when as many wait as should, or when a preparation has failed, and when nothing more is being ended. */
  async filled(): Promise<void> {
    this.fill();
    await this.#filling;
    await Promise.all(this.#discards);
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Takes a container for a sandbox of this much memory; null when none of that size waits. */
  take(memoryBytes: number): Container | null {
    if (this.#isOver()) return null;
    this.#wanted.unshift(memoryBytes);
    this.#wanted.length = this.#options.count;
    this.#refillLater();
    const size = heapMib(memoryBytes);
    for (const container of this.#waiting.filter((one) => heapMib(one.memoryBytes) === size)) {
      this.#remove(container);
      if (container.state === "waiting" && this.#options.isUpToDate(container)) return container;
      this.discard(container);
    }
    return null;
  }

  /** Ends one that waits, or that is about to, to make room for a sandbox; false when there is none. */
  async evict(): Promise<boolean> {
    // One that is being prepared has a place too.
    if (this.#waiting.length === 0) await this.#preparing;
    const container = this.#waiting.shift();
    if (container === undefined) return false;
    try {
      await container[Symbol.asyncDispose]();
    } catch {
      this.discard(container);
    }
    return true;
  }

  succeeded(): void {
    this.#failureCount = 0;
  }

  /** A container failed to become a sandbox, or to wait. */
  failed(error: unknown): void {
    if (this.#isOver()) return;
    this.#failureCount += 1;
    const isLast = this.#failureCount >= FAILURES_MAX;
    const consequence = isLast
      ? "All sandboxes start cold for the next 10 minutes: run caisson doctor, and mend what it reports"
      : "It starts cold";
    this.#options.warn(error, `A warm start has failed. ${consequence}`);
    if (!isLast) return;
    this.#pause = setTimeout(() => this.#resume(), PAUSE_MS).unref();
    for (const container of this.#waiting.splice(0)) this.discard(container);
  }

  /** Ends a container, or undoes all that was made with it, in the background, however often that fails. */
  discard(what: AsyncDisposable): void {
    const discard = this.#undo(what).finally(() => this.#discards.delete(discard));
    this.#discards.add(discard);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error("The runtime is closing"));
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#pause !== null) clearTimeout(this.#pause);
    await this.#filling;
    for (const container of this.#waiting.splice(0)) this.discard(container);
    await Promise.all(this.#discards);
  }

  #resume(): void {
    this.#pause = null;
    this.#failureCount = FAILURES_MAX - 1;
    this.fill();
  }

  #isOver(): boolean {
    return this.#pause !== null || this.#closing.signal.aborted;
  }

  #refillLater(): void {
    const nowMs = performance.now();
    if (this.#timer === null) this.#firstTakeMs = nowMs;
    else clearTimeout(this.#timer);
    const delayMs = Math.min(REFILL_DELAY_MS, Math.max(this.#firstTakeMs + REFILL_DELAY_MAX_MS - nowMs, 0));
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.fill();
    }, delayMs);
    this.#timer.unref();
  }

  /** Never rejects. After a failure the next create is a reason to try again. */
  async #fill(): Promise<void> {
    for (let memoryBytes = this.#missing(); memoryBytes !== null; memoryBytes = this.#missing()) {
      if (this.#waiting.length >= this.#options.count) await this.#evictUnwanted();
      this.#preparing = this.#prepare(memoryBytes);
      if (!(await this.#preparing) || this.#isOver()) return;
    }
  }

  /** A size of which fewer wait than were wanted; null: none. */
  #missing(): number | null {
    const sizes = this.#waiting.map(({ memoryBytes }) => heapMib(memoryBytes));
    for (const memoryBytes of this.#wanted) {
      const index = sizes.indexOf(heapMib(memoryBytes));
      if (index < 0) return memoryBytes;
      sizes.splice(index, 1);
    }
    return null;
  }

  /** Of a size of which more wait than were wanted, the one that has waited longest. */
  async #evictUnwanted(): Promise<void> {
    const wanted = this.#wanted.map(heapMib);
    const isUnwanted = ({ memoryBytes }: Container): boolean => {
      const index = wanted.indexOf(heapMib(memoryBytes));
      if (index >= 0) wanted.splice(index, 1);
      return index < 0;
    };
    const container = this.#waiting.find(isUnwanted);
    if (container === undefined) return;
    this.#remove(container);
    this.discard(container);
  }

  async #prepare(memoryBytes: number): Promise<boolean> {
    const container = this.#options.make(memoryBytes);
    try {
      await step("runtime.warm.prepare", () => this.#options.prepare(container, this.#closing.signal));
    } catch (error) {
      this.discard(container);
      // Every place is taken: then nobody needs one that waits.
      const isFull = error instanceof CaissonError && error.code === "SERVER_FULL";
      if (!isFull) this.failed(error);
      return false;
    }
    if (this.#isOver() || container.state !== "waiting") {
      this.discard(container);
      return false;
    }
    this.#waiting.push(container);
    void container.ended.then(() => this.#replace(container));
    return true;
  }

  /** It has died while it waited. */
  #replace(container: Container): void {
    if (!this.#remove(container)) return;
    this.discard(container);
    if (!this.#isOver()) this.#refillLater();
  }

  #remove(container: Container): boolean {
    const index = this.#waiting.indexOf(container);
    if (index >= 0) this.#waiting.splice(index, 1);
    return index >= 0;
  }

  async #undo(what: AsyncDisposable): Promise<void> {
    for (;;) {
      try {
        return await what[Symbol.asyncDispose]();
      } catch (error) {
        this.#options.warn(error, "Cannot end a container that waited; it is tried again");
        if (this.#closing.signal.aborted) return;
      }
      await delay(RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    }
  }
}
