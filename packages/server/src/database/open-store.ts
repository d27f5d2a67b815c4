import { access } from "node:fs/promises";
import { join } from "node:path";
import {
  findLeaderOf,
  markCopied,
  openPostgresStore,
  openSqliteStore,
  type StandBy,
  type Store,
} from "@caisson/database";
import { faultPoint, faultPointSync, step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { InstallationFile } from "./installation-file.ts";

/** Where SQLite keeps the rows of a data directory. */
export function sqlitePathOf(dataDirectory: string): string {
  return join(dataDirectory, "database", "caisson.db");
}

export function installationFileOf(dataDirectory: string): InstallationFile {
  return new InstallationFile(join(dataDirectory, "database"));
}

export interface OpenStoreHooks {
  /** Another server has taken the database. */
  onDisplaced(error: Error): void;
  /** SQLite's log could not be moved into the database. It is whole, is tried again, and grows until then. */
  onLogProblem(error: unknown): void;
  /** For a server without disks of its own: what it does while another one of its installation leads. */
  readonly standBy: StandBy | null;
}

/**
 * Opens the store that the settings name; without a `database` that is SQLite in the data directory. Throws `INVALID_CONFIG` when the rows that tell of this data
 * directory are in the other one: a server never begins anew beside volumes that it then would not know.
 */
export async function openStore(
  { dataDirectory, databaseUrl }: { readonly dataDirectory: string; readonly databaseUrl: string | null },
  { onDisplaced, onLogProblem, standBy }: OpenStoreHooks,
): Promise<Store> {
  const file = installationFileOf(dataDirectory);
  if (databaseUrl === null) {
    if ((await file.read())?.rows === "postgresql")
      throw new CaissonError(
        "INVALID_CONFIG",
        `The rows of ${dataDirectory} are in a PostgreSQL database, and the settings name none: set "database" to its URL again`,
      );
    return openSqliteStore(sqlitePathOf(dataDirectory), { faultPoint: faultPointSync, onMoveFailure: onLogProblem });
  }
  const isShared = standBy !== null;
  if (isShared) await adoptInstallation(file, databaseUrl, dataDirectory);
  const installation = await file.ensure();
  if (installation.rows === "sqlite" && (await hasRows(sqlitePathOf(dataDirectory))))
    throw new CaissonError(
      "INVALID_CONFIG",
      `The rows of ${dataDirectory} are in SQLite, and the settings name a PostgreSQL database: run \`caisson database copy\` first, or take "database" out of the settings`,
    );
  const store = await openPostgresStore(
    databaseUrl,
    { id: installation.id, dataDirectory, hasRows: installation.rows === "postgresql", isShared },
    { faultPoint, onDisplaced, standBy: standBy && standByFor(installation.id, dataDirectory, standBy) },
  );
  try {
    if (installation.rows === "sqlite") await file.commit(installation);
    await retireSqlite(dataDirectory);
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

/**
 * A server without disks of its own that begins in an empty directory is one more server of the installation whose database it was given, if that is shared. The password of the database is what lets
 * it in: in it is everything that the installation keeps to itself.
 */
async function adoptInstallation(file: InstallationFile, databaseUrl: string, dataDirectory: string): Promise<void> {
  if ((await file.read())?.rows === "postgresql" || (await hasRows(sqlitePathOf(dataDirectory)))) return;
  const leader = await findLeaderOf(databaseUrl);
  if (leader?.isShared === true) await file.commit({ id: leader.installationId, rows: "sqlite" });
}

/** Clients of one installation are never relayed to another: theirs are other tokens, and other things of the same names. */
function standByFor(installationId: string, dataDirectory: string, standBy: StandBy): StandBy {
  return {
    async onLeader(leader) {
      if (leader.installationId !== installationId)
        throw new CaissonError(
          "INVALID_CONFIG",
          `The database belongs to the installation of ${leader.host} (data in ${leader.dataDirectory}), and ${dataDirectory} is of another one: correct the setting "database"; if this directory is new, start again`,
        );
      await standBy.onLeader(leader);
    },
    onProblem: (error) => standBy.onProblem(error),
  };
}

/**
 * Marks the SQLite file, if there is one, when the rows of PostgreSQL count, so that no server ever starts on what it still has, whatever becomes of the settings and of
 * `installation.json`. Each start does it again, for the run that was killed before it could. Marked already is success.
 */
export async function retireSqlite(dataDirectory: string): Promise<void> {
  const path = sqlitePathOf(dataDirectory);
  if (await isThere(path)) await step("installation.retire-sqlite", () => markCopied(path));
}

/** The rows in an SQLite file that no server uses. The caller closes it. */
export function openRows(sqlitePath: string): Store {
  return openSqliteStore(sqlitePath);
}

/** Whether there is an SQLite file that a server has used. */
export async function hasRows(sqlitePath: string): Promise<boolean> {
  if (!(await isThere(sqlitePath))) return false;
  const store = openSqliteStore(sqlitePath);
  try {
    return (await store.organizations.list()).length > 0;
  } finally {
    await store.close();
  }
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
