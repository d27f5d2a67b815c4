import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CaissonError } from "@caisson/model";
import type { Client } from "pg";
import type { Row } from "../records.ts";
import { sqlState } from "./failures.ts";

const MIN_VERSION = 15;
/** `pg_trgm` was how the first tables found parts of slugs, and a new database begins with them; `btree_gist` lets a constraint say "one writer or many readers". */
const EXTENSIONS = ["pg_trgm", "btree_gist"];
const NOT_ALLOWED = "42501";

/** Throws `INVALID_CONFIG` for a server that cannot hold what is stored here. */
export async function requireUsableServer(client: Client, description: string): Promise<void> {
  const { rows } = await client.query<Row>(
    "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number, current_setting('server_encoding') AS encoding",
  );
  const { version, number, encoding } = rows[0] ?? {};
  if (Number(number) < MIN_VERSION * 10_000)
    throw invalid(`${description} is PostgreSQL ${version}: Caisson needs ${MIN_VERSION} or later`);
  if (encoding !== "UTF8")
    throw invalid(
      `${description} has the encoding ${encoding}: create it again with createdb --encoding=UTF8 --template=template0`,
    );
}

/**
 * Applies the migrations that this database has not seen, each in a transaction of its own with the version number. The caller holds the lock of the
 * database's owner. Returns the version. Throws `INVALID_CONFIG` for a newer database, and for an extension that is not there.
 */
export async function migrate(client: Client, description: string): Promise<number> {
  const directory = join(import.meta.dirname, "migrations");
  const files = readdirSync(directory)
    .filter((name) => name.endsWith(".sql"))
    .sort();
  for (const extension of await requireExtensionFiles(client, description))
    await allowed(client, description, `CREATE EXTENSION IF NOT EXISTS ${extension}`);
  await allowed(client, description, "CREATE TABLE IF NOT EXISTS schema_version (version int NOT NULL)");
  const version = Number(
    (await client.query<Row>("SELECT max(version) AS version FROM schema_version")).rows[0]?.version,
  );
  if (version > files.length)
    throw invalid(
      `${description} has schema version ${version}, this program knows up to ${files.length}: use the newer program`,
    );
  // A large table may take longer than any statement while the server runs.
  await client.query("SET statement_timeout = 0");
  for (const [index, file] of files.entries()) {
    if (index < version) continue;
    const sql = readFileSync(join(directory, file), "utf8");
    await allowed(client, description, `BEGIN; ${sql}; INSERT INTO schema_version VALUES (${index + 1}); COMMIT`);
  }
  return files.length;
}

/** Throws `INVALID_CONFIG` for an extension that the database server does not have. Returns those that this database does not have yet. */
export async function requireExtensionFiles(client: Client, description: string): Promise<readonly string[]> {
  const { rows } = await client.query<Row>(
    "SELECT name, installed_version FROM pg_available_extensions WHERE name = ANY ($1)",
    [EXTENSIONS],
  );
  const absent = EXTENSIONS.find((extension) => !rows.some(({ name }) => name === extension));
  if (absent !== undefined)
    throw invalid(
      `the database server of ${description} does not have the extension ${absent}, which comes with PostgreSQL: install its additional modules (on many systems the package postgresql-contrib)`,
    );
  return rows.filter((row) => row.installed_version === null).map(({ name }) => String(name));
}

/** Runs what needs rights that the user may lack. */
async function allowed(client: Client, description: string, sql: string): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    await client.query("ROLLBACK");
    if (sqlState(error) !== NOT_ALLOWED) throw error;
    throw invalid(
      `its user may not create what Caisson needs in ${description} (${error instanceof Error ? error.message : error}): make the user the owner of the database, for example with ALTER DATABASE name OWNER TO user`,
      error,
    );
  }
}

function invalid(problem: string, cause?: unknown): CaissonError {
  return new CaissonError("INVALID_CONFIG", `Cannot use the database: ${problem}`, { cause });
}
