import { join } from "node:path";
import { KeyedLock } from "@caisson/linux";

const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 10 * 60_000;

/** What this server knows of its backups, and the turn of those that make one. */
export class BackupWatch {
  /** One change at a time. */
  readonly turns = new KeyedLock();
  /** Where the copy of the rows lies until it is in the store. */
  readonly copyPath: string;
  readonly dataDirectory: string;
  /** When the newest whole one was made, by the clock of the server that made it; null: none is known yet. */
  lastAtMs: number | null = null;
  /** Why the last try failed, and when; null: it did not. */
  failure: { readonly message: string; readonly atMs: number } | null = null;
  /** Whether some may be there that are not kept any more: after each that is made, and when the server starts. */
  isToBeThinned = true;
  /** By a clock that nobody sets: when this server made one last. */
  #madeMs: number | null = null;
  #failureCount = 0;
  #retryMs = 0;

  constructor(dataDirectory: string) {
    this.dataDirectory = dataDirectory;
    this.copyPath = join(dataDirectory, "database", "backup.db");
  }

  /**
   * How old the newest one is; null: nobody knows, or there is none. One that is from the future, as a clock that was wrong leaves it, is as old as what this server has made, by a clock that nobody sets.
   */
  ageMs(): number | null {
    if (this.lastAtMs === null) return null;
    const ageMs = Date.now() - this.lastAtMs;
    if (ageMs >= 0) return ageMs;
    return this.#madeMs === null ? null : performance.now() - this.#madeMs;
  }

  /** Whether one is to be made by the schedule: the newest is old enough, and the last try is not too short ago if it failed. */
  isDue(everyMs: number): boolean {
    const ageMs = this.ageMs();
    return (ageMs === null || ageMs >= everyMs) && performance.now() >= this.#retryMs;
  }

  succeed(atMs: number): void {
    this.lastAtMs = atMs;
    this.failure = null;
    this.isToBeThinned = true;
    this.#madeMs = performance.now();
    this.#failureCount = 0;
    this.#retryMs = 0;
  }

  /** The schedule tries again after pauses that double and vary: each try writes a copy of the database, and perhaps into the store. What somebody asked for puts off nothing. */
  fail(message: string, { isAutomatic }: { readonly isAutomatic: boolean }): void {
    this.failure = { message, atMs: Date.now() };
    if (!isAutomatic) return;
    const longestMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#failureCount, LONGEST_PAUSE_MS);
    this.#retryMs = performance.now() + longestMs * (0.5 + Math.random() / 2);
    this.#failureCount += 1;
  }
}
