import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { CaissonError } from "@caisson/model";
import type { Row } from "../records.ts";
import { requireNotCopied } from "./copied.ts";

/** Passed before each commit; a test may throw there, or kill the process. */
export type FaultPoint = (tag: string) => void;

/** One SQLite file with its prepared statements. Calls are synchronous; each takes well under a millisecond or is a bug, but a commit, which waits for the disk unless `deferSync` was called. */
export class Connection implements Disposable {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #faultPoint: FaultPoint;
  #synchronous = "FULL";
  #commits = 0;
  #unsyncedCommits = 0;

  constructor(path: string, faultPoint: FaultPoint = () => {}) {
    this.#faultPoint = faultPoint;
    this.#database = new DatabaseSync(path);
    // FULL: a commit is on stable storage before the call returns. WAL keeps readers out of the writer's way.
    this.#database.exec(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;",
    );
    this.#migrate(path);
  }

  /** How many commits there have been that a cut of power must not undo. */
  get commits(): number {
    return this.#commits;
  }

  /** How many commits there have been that are in the log until somebody moves it into the database. */
  get logged(): number {
    return this.#commits + this.#unsyncedCommits;
  }

  /** From now on a commit returns before it is on stable storage, and stays in the log. Whoever needs it there has the log written, and moved into the database (`LogSync`). */
  deferSync(): void {
    this.#synchronous = "NORMAL";
    this.#database.exec("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0");
  }

  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#prepare(sql).get(...values);
  }

  all(sql: string, ...values: SQLInputValue[]): readonly Row[] {
    return this.#prepare(sql).all(...values);
  }

  /** Runs a statement and returns how many rows it changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    const isCommit = !this.#database.isTransaction;
    if (isCommit) this.#faultPoint("database.commit");
    try {
      const { changes } = this.#prepare(sql).run(...values);
      if (isCommit && changes > 0) this.#commits += 1;
      return Number(changes);
    } catch (error) {
      throw fullDisk(error);
    }
  }

  /**
   * As `transaction`, but a cut of power may undo it: it does not wait for the disk, which calls of this thread would wait for too. What the process has
   * committed later lasts together with it.
   */
  unsyncedTransaction<T>(work: () => T, name: string): T {
    this.#database.exec("PRAGMA synchronous = NORMAL");
    try {
      const result = this.#transact(work, name);
      this.#unsyncedCommits += 1;
      return result;
    } finally {
      this.#database.exec(`PRAGMA synchronous = ${this.#synchronous}`);
    }
  }

  /** Runs `work` in one transaction; an exception rolls it back. `name`: the first part of the fault tag. */
  transaction<T>(work: () => T, name = "database"): T {
    const result = this.#transact(work, name);
    this.#commits += 1;
    return result;
  }

  [Symbol.dispose](): void {
    this.#statements.clear();
    this.#database.close();
  }

  #transact<T>(work: () => T, name: string): T {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#faultPoint(`${name}.commit`);
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      // Some failures, of the disk among them, have rolled it back already.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw fullDisk(error);
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Applies the migrations that this file has not seen, each in a transaction of its own with the version number. */
  #migrate(path: string): void {
    const directory = join(import.meta.dirname, "migrations");
    const files = readdirSync(directory)
      .filter((name) => name.endsWith(".sql"))
      .sort();
    const version = Number(this.#database.prepare("PRAGMA user_version").get()?.user_version ?? 0);
    requireNotCopied(path, version);
    if (version > files.length) {
      throw new Error(
        `The database has schema version ${version}, this program knows up to ${files.length}: use the newer program`,
      );
    }
    for (const [index, file] of files.entries()) {
      if (index < version) continue;
      const sql = readFileSync(join(directory, file), "utf8");
      this.transaction(() => {
        this.#database.exec(sql);
        this.#database.exec(`PRAGMA user_version = ${index + 1}`);
      });
    }
  }
}

/** True when the error is a broken UNIQUE rule of the named index or columns. */
export function isUniqueViolation(error: unknown, subject: string): boolean {
  return (
    error instanceof Error && error.message.includes("UNIQUE constraint failed") && error.message.includes(subject)
  );
}

const SQLITE_FULL = 13;

/** Says in the product's words that the disk below is full. */
function fullDisk(error: unknown): unknown {
  if (!(error instanceof Error) || !("errcode" in error) || error.errcode !== SQLITE_FULL) return error;
  return new CaissonError(
    "STORAGE_FULL",
    "Cannot record the change: the disk that holds the database is full. Free space on it",
    {
      cause: error,
    },
  );
}
