import { DatabaseSync } from "node:sqlite";
import { CaissonError } from "@caisson/model";

/** Added to the schema version of a file whose rows were copied away. A program that does not know of it refuses the file as one of a newer program. */
const COPIED = 1_000_000;

/** Marks an SQLite file that no server uses as copied to PostgreSQL: from here on it is refused. It is durable, and marked already is success. */
export function markCopied(path: string): void {
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;");
    const version = Number(database.prepare("PRAGMA user_version").get()?.user_version ?? 0);
    if (version < COPIED) database.exec(`PRAGMA user_version = ${COPIED + version}`);
  } finally {
    database.close();
  }
}

/** Throws `INVALID_CONFIG` for the version of a file that is marked. */
export function requireNotCopied(path: string, version: number): void {
  if (version < COPIED) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `The rows in ${path} were copied to PostgreSQL and have changed there since: set "database" to the URL of that database and, if installation.json ` +
      "beside the file is missing, restore it from a backup. How to go back to what the rows were then is in docs/operate/postgresql.md",
  );
}
