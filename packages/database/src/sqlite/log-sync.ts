import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";

const THREAD = join(import.meta.dirname, "log-sync-thread.ts");

/** After so many commits, about 5 MB of log, it is moved into the database. */
const COMMITS_PER_MOVE = 250;

/** What the thread does. */
export type LogWork =
  | { readonly kind: "sync"; readonly fd: number }
  /** The path is the database's. */
  | { readonly kind: "move"; readonly path: string };
/** Answer of the thread: why it could not; null: it is done. */
export type LogProblem = string | null;

export interface LogSyncOptions {
  /** How many commits there have been that have to last. */
  readonly commits: () => number;
  /** How many commits of any kind have gone into the log. */
  readonly logged: () => number;
  /** Default: 250. */
  readonly commitsPerMove?: number | undefined;
  /** Default: a thread of its own. */
  readonly work?: (work: LogWork) => Promise<void>;
  /** Must not return to what goes on. Default: ends the process. */
  readonly fail?: (error: unknown) => void;
  /** Told that the log could not be moved, and grows until it can be. Default: standard error. */
  readonly onMoveFailure?: ((error: unknown) => void) | undefined;
}

/**
 * Puts commits that SQLite has written to its log on stable storage, and moves the log into the database from time to time, in a thread of its own: SQLite itself would have this thread, and with it all that the server does, wait for the disk. Commits that come while the
 * disk is at work share the next turn.
 *
 * After a failed sync nobody knows what the disk has, and a later success proves nothing, because the kernel drops what it could not write. So the process ends, as PostgreSQL's does, and what the log then holds is what the next start finds.
 * A log that could not be moved is whole, and gets its next try after as many commits.
 */
export class LogSync implements AsyncDisposable {
  readonly #path: string;
  readonly #fd: number;
  readonly #commits: () => number;
  readonly #logged: () => number;
  readonly #commitsPerMove: number;
  readonly #work: (work: LogWork) => Promise<void>;
  readonly #fail: (error: unknown) => void;
  readonly #onMoveFailure: (error: unknown) => void;
  #syncedCommits: number;
  #running: Promise<void> | null = null;
  /** How many had been logged when it was last moved. */
  #movedAt: number;
  #moving: Promise<void> | null = null;

  /** `path`: of the database, whose log is there as long as it is open. What was committed before is taken to be on stable storage. */
  constructor(
    path: string,
    {
      commits,
      logged,
      commitsPerMove = COMMITS_PER_MOVE,
      work = workInThread,
      fail = endProcess,
      onMoveFailure = printMoveFailure,
    }: LogSyncOptions,
  ) {
    this.#path = path;
    this.#fd = openSync(`${path}-wal`, "r");
    this.#commits = commits;
    this.#logged = logged;
    this.#commitsPerMove = commitsPerMove;
    this.#work = work;
    this.#fail = fail;
    this.#onMoveFailure = onMoveFailure;
    this.#syncedCommits = commits();
    this.#movedAt = logged();
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
    await this.#moving;
    closeSync(this.#fd);
  }

  async #after<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } finally {
      await this.#untilSynced();
      if (this.#logged() - this.#movedAt >= this.#commitsPerMove) this.#moving ??= this.#move();
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
      await this.#work({ kind: "sync", fd: this.#fd });
    } catch (error) {
      this.#fail(error);
    }
    this.#syncedCommits = covered;
    this.#running = null;
  }

  async #move(): Promise<void> {
    this.#movedAt = this.#logged();
    try {
      await this.#work({ kind: "move", path: this.#path });
    } catch (error) {
      this.#onMoveFailure(error);
    }
    this.#moving = null;
  }
}

let thread: Worker | null = null;
/** What waits for the thread, which answers in order. */
const waiting: PromiseWithResolvers<void>[] = [];

function workInThread(work: LogWork): Promise<void> {
  if (thread === null) {
    thread = new Worker(THREAD, { trackUnmanagedFds: false });
    thread.on("message", (problem: LogProblem) => {
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
  thread.postMessage(work);
  return result.promise;
}

function printMoveFailure(error: unknown): void {
  console.error("The log of the database could not be moved into it, which is tried again:", error);
}

function endProcess(error: unknown): void {
  console.error("The disk does not take what the database has committed:", error);
  process.abort();
}
