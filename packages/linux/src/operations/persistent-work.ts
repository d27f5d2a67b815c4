import { setTimeout as delay } from "node:timers/promises";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 30_000;

/** Where it is told that work failed, and that it was done in the end. */
export interface WorkLogger {
  info(details: object, message: string): void;
  error(details: object, message: string): void;
}

/** What a piece of work is, for the log. */
export type WorkDescription = { readonly work: string; readonly objectId: string } & Readonly<Record<string, unknown>>;

/**
 * Work that has to be done in the end, such as giving back what a sandbox held: tried again, after pauses that double, until it succeeds. What
 * the server's own end cuts off is settled by the next start, so everything here has its intent in the database.
 */
export class PersistentWork {
  readonly #logger: WorkLogger;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<boolean>>();
  readonly #onFailure: () => void;
  #failing = 0;

  /** `onFailure` runs at each try that fails. */
  constructor(logger: WorkLogger, onFailure: () => void = () => {}) {
    this.#logger = logger;
    this.#onFailure = onFailure;
  }

  /** How many pieces of work have failed and are tried again. */
  get failingCount(): number {
    return this.#failing;
  }

  /** Resolves to true when `attempt` has succeeded, and to false when the server closes before. Never rejects. */
  untilDone(description: WorkDescription, attempt: () => Promise<void>): Promise<boolean> {
    const work = this.#repeat(description, attempt).finally(() => this.#running.delete(work));
    this.#running.add(work);
    return work;
  }

  /** Gives work that keeps failing one more try, and resolves when nothing runs any more. */
  async close(): Promise<void> {
    this.#closing.abort();
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  async #repeat(description: WorkDescription, attempt: () => Promise<void>): Promise<boolean> {
    const { signal } = this.#closing;
    let pauseMs = FIRST_PAUSE_MS;
    for (let attempts = 1; ; attempts += 1) {
      const isLast = signal.aborted;
      try {
        await attempt();
        if (attempts > 1) {
          this.#failing -= 1;
          this.#logger.info({ ...description, attempts }, "done after failures");
        }
        return true;
      } catch (error) {
        if (attempts === 1) this.#failing += 1;
        this.#onFailure();
        const outlook = isLast ? "failed; the next start settles it" : "failed, and will be tried again";
        this.#logger.error({ err: error, ...description, attempts }, outlook);
        if (isLast) return false;
      }
      // The server's end cuts the pause short.
      await delay(pauseMs, undefined, { signal }).catch(() => {});
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
}
