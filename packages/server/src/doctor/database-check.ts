import { checkPostgres, type PostgresCheck } from "@caisson/database";
import { type Check, missing, ok, warning } from "./check.ts";

const NAME = "database";
/** The server's own connections, and some for backups and people. */
const CONNECTIONS_GOOD = 25;
/** Beyond this a create waits longer for the database than for the sandbox. */
const QUERY_GOOD_MS = 10;

/** Looks at the database that the settings name. */
export async function checkDatabase(url: string | null): Promise<Check> {
  if (url === null) return ok(NAME, "SQLite, in the data directory");
  try {
    return judgeDatabase(await checkPostgres(url));
  } catch (error) {
    return missing(
      NAME,
      error instanceof Error ? error.message : String(error),
      'Mend it, or correct the setting "database"',
    );
  }
}

export function judgeDatabase({
  description,
  version,
  unsafeSettings,
  maxConnections,
  durationMs,
}: PostgresCheck): Check {
  const found = `PostgreSQL ${version} at ${description}, a query takes ${durationMs.toFixed(1)} ms`;
  if (unsafeSettings.length > 0)
    return warning(
      NAME,
      `${found}, with ${unsafeSettings.join(" and ")} off`,
      `A power cut can take what was acknowledged, or all of the database: set ${unsafeSettings.join(" and ")} to on in postgresql.conf`,
    );
  if (maxConnections < CONNECTIONS_GOOD)
    return warning(
      NAME,
      `${found}, for ${maxConnections} connections`,
      `Raise max_connections to ${CONNECTIONS_GOOD} or more`,
    );
  if (durationMs > QUERY_GOOD_MS)
    return warning(NAME, found, "Put the database nearer to the server: each request asks it several times");
  return ok(NAME, found);
}
