import { resolve } from "node:path";
import { type CopyReport, copyToPostgres, migratePostgres } from "@caisson/database";
import { faultPoint } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Config } from "../config.ts";
import { lockDataDirectory } from "../data-directory.ts";
import { hasRows, installationFileOf, retireSqlite, sqlitePathOf } from "./open-store.ts";

export type DatabaseCommand = "migrate" | "copy";

/** What a command did, for `caisson database`. */
export type DatabaseOutcome =
  | { readonly command: "migrate"; readonly schemaVersion: number }
  | ({ readonly command: "copy" } & CopyReport);

/** Runs while no server uses the data directory and the database. Throws `INVALID_CONFIG` that says what to do. */
export async function runDatabaseCommand(config: Config, command: DatabaseCommand): Promise<DatabaseOutcome> {
  const { databaseUrl, configPath } = config;
  if (databaseUrl === null)
    throw new CaissonError(
      "INVALID_CONFIG",
      `The settings name no PostgreSQL database: set "database" in ${configPath}, then run this again`,
    );
  const dataDirectory = resolve(config.dataDirectory);
  await using _lock = await lockDataDirectory(dataDirectory);
  if (command === "copy") return copy(dataDirectory, databaseUrl);
  return { command, schemaVersion: await migratePostgres(databaseUrl) };
}

/**
 * Intent: the id in the data directory. Then the rows, in one transaction that ends with whose they are. Commit: the data directory says that its rows
 * are in PostgreSQL. A crash before that leaves SQLite in use, and the next run goes on. Last, the SQLite file is marked, so that no server starts on it; a crash
 * before that leaves it to the next start or run.
 */
async function copy(dataDirectory: string, databaseUrl: string): Promise<DatabaseOutcome> {
  const file = installationFileOf(dataDirectory);
  if ((await file.read())?.rows === "postgresql") {
    await retireSqlite(dataDirectory);
    throw new CaissonError(
      "INVALID_CONFIG",
      `The rows of ${dataDirectory} are in PostgreSQL already: nothing is left to copy`,
    );
  }
  const sqlitePath = sqlitePathOf(dataDirectory);
  if (!(await hasRows(sqlitePath)))
    throw new CaissonError("INVALID_CONFIG", `There is nothing to copy in ${dataDirectory}: start the server`);
  const installation = await file.ensure();
  const report = await copyToPostgres(sqlitePath, databaseUrl, { id: installation.id, dataDirectory }, { faultPoint });
  await file.commit(installation);
  await retireSqlite(dataDirectory);
  return { command: "copy", ...report };
}
