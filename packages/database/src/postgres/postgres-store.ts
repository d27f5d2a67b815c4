import type { Row } from "../records.ts";
import type { Store } from "../store.ts";
import { parseConnectionUrl } from "./connection-options.ts";
import { backupPostgres } from "./copy/backup-postgres.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { createDiskStore } from "./disks.ts";
import { endClient } from "./end-client.ts";
import { createEventStore } from "./events.ts";
import { createJoiningStore } from "./joining.ts";
import { createLeadership, findLeader, type Leader } from "./leadership.ts";
import { requireExtensionFiles, requireUsableServer } from "./migrations.ts";
import { createNodeStore } from "./nodes.ts";
import { createOrganizationStore } from "./organizations.ts";
import { connectOnce, connectWithin } from "./owner-connection.ts";
import { type Installation, Ownership, START_WAIT_MS } from "./ownership.ts";
import { createSandboxStore } from "./sandboxes.ts";
import { createSnapshotStoreRows } from "./snapshot-store.ts";
import { createSshKeyStore } from "./ssh-keys.ts";
import type { StandBy } from "./stand-by.ts";

/**
 * The store in a PostgreSQL database (15 or later), made and migrated when needed. One server at a time owns it, of one installation; with `standBy` this one waits
 * until it is its turn. Throws `INVALID_CONFIG` that says what is wrong with the database and what to do.
 */
export async function openPostgresStore(
  url: string,
  installation: Installation,
  settings: DatabaseOptions & { readonly standBy?: StandBy | null },
): Promise<Store> {
  const options = parseConnectionUrl(url);
  await using undo = new AsyncDisposableStack();
  const { startWaitMs: waitMs, standBy = null } = settings;
  const ownership = undo.use(await Ownership.take(options, { waitMs, standBy }));
  const generation = await ownership.claim(installation, settings.onDisplaced);
  const database = undo.use(new Database(options, generation, settings));
  const resources = undo.move();
  return { ...storesOf(database), close: () => resources.disposeAsync() };
}

/** Who has the database, or had it last; null: nobody ever. Waits a little for a database server that does not answer yet. Throws `INVALID_CONFIG`. */
export async function findLeaderOf(url: string): Promise<Leader | null> {
  const client = await connectWithin(parseConnectionUrl(url), Date.now() + START_WAIT_MS);
  try {
    return await findLeader(client);
  } finally {
    await endClient(client);
  }
}

/** The stores over a database that is owned already. */
export function storesOf(database: Database): Omit<Store, "close"> {
  return {
    organizations: createOrganizationStore(database),
    nodes: createNodeStore(database),
    joining: createJoiningStore(database),
    disks: createDiskStore(database),
    sandboxes: createSandboxStore(database),
    sshKeys: createSshKeyStore(database),
    snapshotStore: createSnapshotStoreRows(database),
    events: createEventStore(database),
    leadership: createLeadership(database),
    backup: (path) => backupPostgres(database, path),
  };
}

/** Brings the schema up to date, as a server's start does. Returns its version. Throws `INVALID_CONFIG`, also while a server uses the database. */
export async function migratePostgres(url: string): Promise<number> {
  await using ownership = await Ownership.take(parseConnectionUrl(url));
  return ownership.schemaVersion;
}

/** What `caisson doctor` looks at. */
export interface PostgresCheck {
  readonly description: string;
  readonly version: string;
  /** Settings of the database server with which a power cut can take what was acknowledged. */
  readonly unsafeSettings: readonly string[];
  readonly maxConnections: number;
  /** Of one query. */
  readonly durationMs: number;
}

/** Looks at a database without changing it. Throws `INVALID_CONFIG` that says what is wrong. */
export async function checkPostgres(url: string): Promise<PostgresCheck> {
  const options = parseConnectionUrl(url);
  const client = await connectOnce(options);
  try {
    await requireUsableServer(client, options.description);
    await requireExtensionFiles(client, options.description);
    const startedMs = performance.now();
    const { rows } = await client.query<Row>(
      `SELECT current_setting('server_version') AS version, current_setting('max_connections')::int AS connections,
         ARRAY(SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name) AS unsafe`,
    );
    const durationMs = performance.now() - startedMs;
    const { version, connections, unsafe } = rows[0] ?? {};
    return {
      description: options.description,
      version: String(version),
      unsafeSettings: unsafe as string[],
      maxConnections: Number(connections),
      durationMs,
    };
  } finally {
    await endClient(client);
  }
}
