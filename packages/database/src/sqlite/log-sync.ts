import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";

const THREAD = join(import.meta.dirname, "log-sync-thread.ts");

/** Answer of the thread: why it could not; null: it is on stable storage. */
export type SyncProblem = string | null;

export interface LogSyncOptions {
  /** How many commits there have been. */
  readonly commits: () => number;
  /** Default: `fdatasync` in a thread of its own. */
  readonly sync?: (fd: number) => Promise<void>;
  /** Must not return to what goes on. Default: ends the process. */
  readonly fail?: (error: unknown) => void;
}

/**
 * Puts commits that SQLite has written to its log on stable storage, in a thread of its own: SQLite itself would have this thread, and with it all that the server does, wait for the disk at each of them. Commits that come while the
 * disk is at work share the next turn.
 *
 * After a failure nobody knows what the disk has, and a later success proves nothing, because the kernel drops what it could not write. So the process ends, as PostgreSQL's does, and what the log then holds is what the next start finds.
 */
export class LogSync implements AsyncDisposable {
  readonly #fd: number;
  readonly #commits: () => number;
  readonly #sync: (fd: number) => Promise<void>;
  readonly #fail: (error: unknown) => void;
  #syncedCommits: number;
  #running: Promise<void> | null = null;

  /** `path`: of the log, which is there as long as the database is open. What was committed before is taken to be on stable storage. */
  constructor(path: string, { commits, sync = syncInThread, fail = endProcess }: LogSyncOptions) {
    this.#fd = openSync(path, "r");
    this.#commits = commits;
    this.#sync = sync;
    this.#fail = fail;
    this.#syncedCommits = commits();
  }

  /** The same functions, each of which answers when all that was committed by then, by whomever, is on stable storage: nothing that it says is undone by a cut of power. */
  durable<Calls extends object>(calls: Calls): Calls {
    const entries = Object.entries(calls as Record<string, (...args: unknown[]) => Promise<unknown>>);
    const wrapped = entries.map(([name, run]) => [name, (...args: unknown[]) => this.#after(() => run(...args))]);
    return Object.fromEntries(wrapped) as Calls;
  }

  /** Also what nobody waits for is on stable storage then. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#untilSynced();
    await this.#running;
    closeSync(this.#fd);
  }

  async #after<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } finally {
      await this.#untilSynced();
    }
  }

  async #untilSynced(): Promise<void> {
    const target = this.#commits();
    while (this.#syncedCommits < target) {
      this.#running ??= this.#turn();
      await this.#running;
    }
  }

  async #turn(): Promise<void> {
    const covered = this.#commits();
    try {
      await this.#sync(this.#fd);
    } catch (error) {
      this.#fail(error);
    }
    this.#syncedCommits = covered;
    this.#running = null;
  }
}

let thread: Worker | null = null;
/** What waits for the thread, which answers in order. */
const waiting: PromiseWithResolvers<void>[] = [];

function syncInThread(fd: number): Promise<void> {
  if (thread === null) {
    thread = new Worker(THREAD, { trackUnmanagedFds: false });
    thread.on("message", (problem: SyncProblem) => {
      const first = waiting.shift();
      if (problem === null) first?.resolve();
      else first?.reject(new Error(problem));
      // It keeps the process only while somebody waits for it.
      if (waiting.length === 0) thread?.unref();
    });
    thread.on("error", endProcess);
  }
  thread.ref();
  const result = Promise.withResolvers<void>();
  waiting.push(result);
  thread.postMessage(fd);
  return result.promise;
}

function endProcess(error: unknown): void {
  console.error("The disk does not take what the database has committed:", error);
  process.abort();
}
