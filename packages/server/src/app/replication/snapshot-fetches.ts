import { orAborted } from "@caisson/objects";

/** Fetches at a time, of all organizations: each writes to a pool, and takes memory for a few chunks. */
const FETCHES_MAX = 4;

/** How far a fetch is. */
export interface FetchProgress {
  readonly startedAtMs: number;
  /** Bytes of the image that were verified and handed to its pool. */
  doneBytes: number;
  /** Bytes that its data has in all; null: it waits for its turn, or for the store's first answer. */
  totalBytes: number | null;
}

type Fetch = (signal: AbortSignal, progress: FetchProgress) => Promise<void>;

interface RunningFetch {
  readonly done: Promise<void>;
  readonly leaving: AbortController;
  readonly progress: FetchProgress;
  waiterCount: number;
}

/** The snapshots that are being fetched. Those who need the same one wait for one fetch, which ends when all of them have left; the others wait for their turn. */
export class SnapshotFetches {
  readonly #running = new Map<string, RunningFetch>();
  readonly #waiting: Array<() => void> = [];
  #activeCount = 0;

  /** How far the fetch of the snapshot is; null: there is none. */
  progressOf(id: string): Readonly<FetchProgress> | null {
    return this.#running.get(id)?.progress ?? null;
  }

  /** Joins the fetch of the snapshot, or begins it. `signal`: the caller leaves, and gets the signal's reason at once. */
  async join(id: string, signal: AbortSignal, fetch: Fetch): Promise<void> {
    signal.throwIfAborted();
    const found = this.#running.get(id);
    const running = found === undefined || found.leaving.signal.aborted ? this.#begin(id, fetch) : found;
    running.waiterCount += 1;
    try {
      await orAborted(signal, () => running.done);
    } finally {
      running.waiterCount -= 1;
      if (running.waiterCount === 0) running.leaving.abort(signal.reason);
    }
  }

  #begin(id: string, fetch: Fetch): RunningFetch {
    const leaving = new AbortController();
    const progress: FetchProgress = { startedAtMs: Date.now(), doneBytes: 0, totalBytes: null };
    const done = this.#inTurn(() => {
      leaving.signal.throwIfAborted();
      return fetch(leaving.signal, progress);
    }).finally(() => {
      if (this.#running.get(id) === running) this.#running.delete(id);
    });
    // Those who wait hear of it, if anybody does.
    done.catch(() => undefined);
    const running: RunningFetch = { done, leaving, progress, waiterCount: 0 };
    this.#running.set(id, running);
    return running;
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    if (this.#activeCount >= FETCHES_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#activeCount += 1;
    try {
      await work();
    } finally {
      // The place goes to the next one, or is free.
      const next = this.#waiting.shift();
      if (next === undefined) this.#activeCount -= 1;
      else next();
    }
  }
}
