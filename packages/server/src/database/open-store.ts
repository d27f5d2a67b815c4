import { access } from "node:fs/promises";
import { join } from "node:path";
import { openPostgresStore, openSqliteStore, type Store } from "@caisson/database";
import { faultPoint, faultPointSync } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { InstallationFile } from "./installation-file.ts";

/** Where SQLite keeps the rows of a data directory. */
export function sqlitePathOf(dataDirectory: string): string {
  return join(dataDirectory, "database", "caisson.db");
}

export function installationFileOf(dataDirectory: string): InstallationFile {
  return new InstallationFile(join(dataDirectory, "database"));
}

/**
 * Opens the store that the settings name; without a `database` that is SQLite in the data directory. Throws `INVALID_CONFIG` when the rows that tell of this data
 * directory are in the other one: a server never begins anew beside volumes that it then would not know.
 */
export async function openStore(
  { dataDirectory, databaseUrl }: { readonly dataDirectory: string; readonly databaseUrl: string | null },
  onDisplaced: (error: Error) => void,
): Promise<Store> {
  const file = installationFileOf(dataDirectory);
  if (databaseUrl === null) {
    if ((await file.read())?.rows === "postgresql")
      throw new CaissonError(
        "INVALID_CONFIG",
        `The rows of ${dataDirectory} are in a PostgreSQL database, and the settings name none: set "database" to its URL again`,
      );
    return openSqliteStore(sqlitePathOf(dataDirectory), { faultPoint: faultPointSync });
  }
  const installation = await file.ensure();
  if (installation.rows === "sqlite" && (await hasRows(sqlitePathOf(dataDirectory))))
    throw new CaissonError(
      "INVALID_CONFIG",
      `The rows of ${dataDirectory} are in SQLite, and the settings name a PostgreSQL database: run \`caisson database copy\` first, or take "database" out of the settings`,
    );
  const store = await openPostgresStore(
    databaseUrl,
    { id: installation.id, dataDirectory, hasRows: installation.rows === "postgresql" },
    { faultPoint, onDisplaced },
  );
  try {
    if (installation.rows === "sqlite") await file.commit(installation);
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Whether there is an SQLite file that a server has used. */
export async function hasRows(sqlitePath: string): Promise<boolean> {
  const isThere = await access(sqlitePath).then(
    () => true,
    () => false,
  );
  if (!isThere) return false;
  const store = openSqliteStore(sqlitePath);
  try {
    return (await store.organizations.list()).length > 0;
  } finally {
    await store.close();
  }
}
