import { CaissonError } from "@caisson/model";
import pg from "pg";

/** The connection is gone, or none could be made: what was not committed did not happen. */
export class ConnectionLost extends Error {
  /** Whether waiting may help; not so with a wrong password. */
  readonly isPassing: boolean;

  constructor(cause: unknown, isPassing = true) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.name = "ConnectionLost";
    this.isPassing = isPassing;
  }
}

/** Classes and codes of SQLSTATE that say that this connection, or the whole server, has ended or takes no more. */
const LOST = /^(?:08...|57P0[0-5]|53300|25P03|25006)$/;
/** The server let a whole transaction go, so that it may be tried again. */
const ROLLED_BACK = /^(?:40001|40P01)$/;
const REFUSED_LOGIN = /^28/;
const NO_DATABASE = "3D000";
const DISK_FULL = "53100";
const TOO_SLOW = /^(?:55P03|57014)$/;

export function sqlState(error: unknown): string {
  return error instanceof pg.DatabaseError ? (error.code ?? "") : "";
}

/** What a call of the client library failed with; a lost connection is told from what the database answered. */
export function classify(error: unknown): unknown {
  if (error instanceof ConnectionLost) return error;
  const state = sqlState(error);
  if (LOST.test(state)) return new ConnectionLost(error);
  if (REFUSED_LOGIN.test(state) || state === NO_DATABASE) return new ConnectionLost(error, false);
  // Everything that the library throws by itself is about the connection.
  return error instanceof pg.DatabaseError ? error : new ConnectionLost(error);
}

export function isRolledBack(error: unknown): boolean {
  return ROLLED_BACK.test(sqlState(error));
}

/** It waited too long for a lock, or for its own end. */
export function isTooSlow(error: unknown): boolean {
  return TOO_SLOW.test(sqlState(error));
}

/** True when the error is a broken rule of that name. */
export function isViolation(error: unknown, constraint: string): boolean {
  return error instanceof pg.DatabaseError && error.code?.startsWith("23") === true && error.constraint === constraint;
}

/** What a call that failed tells its caller: an answer of the database that can be explained is explained. */
export function explain(error: unknown, description: string): unknown {
  if (error instanceof ConnectionLost)
    return new CaissonError("DATABASE_UNAVAILABLE", `The database cannot be used: ${adviceOn(error, description)}`, {
      cause: error.cause,
    });
  const state = sqlState(error);
  if (state === DISK_FULL)
    return new CaissonError(
      "STORAGE_FULL",
      "Cannot record the change: the disk that holds the database is full. Free space on it",
      { cause: error },
    );
  if (isTooSlow(error) || isRolledBack(error))
    return new CaissonError(
      "DATABASE_UNAVAILABLE",
      "The database is too busy: the change waited too long for others, and was not made. Try again",
      { cause: error },
    );
  return error;
}

/** For ever: what this server was is another one now. */
export function takenByAnother(description: string): CaissonError {
  return new CaissonError(
    "DATABASE_UNAVAILABLE",
    `Another server has taken the database ${description}: this one may not change it any more. Stop one of the two`,
  );
}

/** What is wrong with a connection and what to do about it, as a sentence without an end. */
export function adviceOn(error: ConnectionLost, description: string): string {
  const state = sqlState(error.cause);
  const { message } = error;
  if (REFUSED_LOGIN.test(state))
    return `${description} refuses the login (${message}). Correct the user and password of the setting "database", or pg_hba.conf of the database server`;
  if (state === NO_DATABASE)
    return `${description} is not there (${message}). Create it with createdb, or correct the setting "database"`;
  if (state === "53300") return `${description} takes no more connections (${message}). Raise its max_connections`;
  return `${description} does not answer as it should (${message || "no answer"}). See that PostgreSQL runs there, takes writes and can be reached`;
}
