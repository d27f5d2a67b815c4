import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import pg from "pg";
import type { Row } from "../records.ts";
import type { ConnectionOptions } from "./connection-options.ts";
import { adviceOn, ConnectionLost, classify } from "./failures.ts";
import { LOCKS, lockKeys } from "./locks.ts";
import { migrate, requireUsableServer } from "./migrations.ts";
import { setUpSession } from "./session.ts";

/** A server that has just been killed may still be going, and a database server may still be starting. */
const START_WAIT_MS = 10_000;
const PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/** Which data directory the rows belong to: the volumes that they tell of are there. */
export interface Installation {
  /** Kept in the data directory, too. */
  readonly id: string;
  readonly dataDirectory: string;
  /** Its rows are in PostgreSQL already, so a database without them is the wrong one. Default: false. */
  readonly hasRows?: boolean;
}

/**
 * The one connection that owns a database for a server. It holds an advisory lock, which keeps a second server from starting. When the connection is
 * lost, the lock goes with it until it is made again; in between, the generation in the table `installation` keeps a second server and this one from
 * both writing: each transaction compares it.
 */
export class Ownership implements AsyncDisposable {
  readonly schemaVersion: number;
  readonly #options: ConnectionOptions;
  readonly #closing = new AbortController();
  #client: pg.Client;
  #keeping: Promise<void> = Promise.resolve();

  private constructor(options: ConnectionOptions, client: pg.Client, schemaVersion: number) {
    this.#options = options;
    this.#client = client;
    this.schemaVersion = schemaVersion;
    this.#watch(client);
  }

  /**
   * Connects, brings the schema up to date, and waits a little for the lock. Throws `INVALID_CONFIG` that says what is wrong: no connection, a server that is too
   * old, an extension that is not there, another server that owns the database.
   */
  static async take(options: ConnectionOptions, waitMs = START_WAIT_MS): Promise<Ownership> {
    const client = await connectWithin(options, Date.now() + waitMs);
    try {
      await requireUsableServer(client, options.description);
      if (!(await lockWithin(client, Date.now() + waitMs))) throw await ownedByAnother(client, options.description);
      return new Ownership(options, client, await migrate(client, options.description));
    } catch (error) {
      await client.end().catch(() => {});
      throw error instanceof CaissonError ? error : invalid(classify(error), options.description);
    }
  }

  /** Queries on the connection that holds the lock, while nothing else uses it. */
  get client(): pg.Client {
    return this.#client;
  }

  /** Makes the database this installation's, and keeps every server before this one from writing. Throws `INVALID_CONFIG` when it is another's, or lacks the rows. */
  async claim(installation: Installation): Promise<number> {
    const client = this.#client;
    await client.query("BEGIN");
    try {
      // Transactions of a server that has lost its lock, and does not know it yet, end first.
      await client.query(`SELECT pg_advisory_xact_lock(${lockKeys(LOCKS.takeover)})`);
      const found = (await client.query<Row>("SELECT id, host, data_directory FROM installation")).rows[0];
      if (found !== undefined && found.id !== installation.id)
        throw new CaissonError(
          "INVALID_CONFIG",
          `The database ${this.#options.description} belongs to the data directory ${found.data_directory} of ${found.host}, and this is ${installation.dataDirectory}: give each installation a database of its own`,
        );
      if (found === undefined && installation.hasRows === true)
        throw new CaissonError(
          "INVALID_CONFIG",
          `The database ${this.#options.description} does not have the rows of ${installation.dataDirectory}, which are in a PostgreSQL database: correct the setting "database", or restore the database from a backup`,
        );
      const { rows } = await client.query<Row>(
        `INSERT INTO installation (id, generation, host, data_directory) VALUES ($1, 1, $2, $3)
         ON CONFLICT (only_row) DO UPDATE SET generation = installation.generation + 1, host = excluded.host, data_directory = excluded.data_directory
         RETURNING generation`,
        [installation.id, hostname(), installation.dataDirectory],
      );
      await client.query("COMMIT");
      return Number(rows[0]?.generation);
    } catch (error) {
      await client.query("ROLLBACK").catch(() => {});
      throw error instanceof CaissonError ? error : invalid(classify(error), this.#options.description);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#keeping;
    await this.#client.end().catch(() => {});
  }

  #watch(client: pg.Client): void {
    client.once("end", () => {
      if (!this.#closing.signal.aborted) this.#keeping = this.#takeAgain();
    });
  }

  /** After a loss: connects and takes the lock again, however long that takes. Who took it in between has raised the generation. */
  async #takeAgain(): Promise<void> {
    const { signal } = this.#closing;
    for (let pauseMs = PAUSE_MS; !signal.aborted; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      await delay(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const client = newClient(this.#options);
      try {
        await client.connect();
        await setUpOwner(client);
        if (await tryLock(client)) {
          this.#client = client;
          this.#watch(client);
          return;
        }
      } catch {
        // Tried again.
      }
      await client.end().catch(() => {});
    }
  }
}

/** Its statements may take long: a migration of a large table. Errors between two statements show as the end of the connection. */
function newClient({ config }: ConnectionOptions): pg.Client {
  const client = new pg.Client({ ...config, query_timeout: 0 });
  client.on("error", () => {});
  return client;
}

/** Nothing answers before the database server is up, which is waited for; what it then refuses stays refused. */
async function connectWithin(options: ConnectionOptions, untilMs: number): Promise<pg.Client> {
  for (;;) {
    try {
      return await connectOnce(options);
    } catch (error) {
      const lost = error instanceof CaissonError ? error.cause : null;
      if (!(lost instanceof ConnectionLost) || !lost.isPassing || Date.now() > untilMs) throw error;
    }
    await delay(PAUSE_MS);
  }
}

/** Throws `INVALID_CONFIG` that says what to do. */
export async function connectOnce(options: ConnectionOptions): Promise<pg.Client> {
  const client = newClient(options);
  try {
    await client.connect();
    await setUpOwner(client);
    return client;
  } catch (error) {
    await client.end().catch(() => {});
    throw invalid(classify(error), options.description);
  }
}

/** The database server notices within half a minute that the machine of an owner is gone. */
async function setUpOwner(client: pg.Client): Promise<void> {
  await setUpSession(client);
  await client.query("SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3");
}

async function lockWithin(client: pg.Client, untilMs: number): Promise<boolean> {
  while (!(await tryLock(client))) {
    if (Date.now() > untilMs) return false;
    await delay(PAUSE_MS);
  }
  return true;
}

async function tryLock(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<Row>(`SELECT pg_try_advisory_lock(${lockKeys(LOCKS.owner)}) AS is_locked`);
  return rows[0]?.is_locked === true;
}

async function ownedByAnother(client: pg.Client, description: string): Promise<CaissonError> {
  const { rows } = await client
    .query<Row>("SELECT host, data_directory FROM installation")
    .catch(() => ({ rows: [] as Row[] }));
  const whose = rows[0] === undefined ? "" : ` (${rows[0].host}, data in ${rows[0].data_directory})`;
  return new CaissonError(
    "INVALID_CONFIG",
    `Another server uses the database ${description}${whose}: stop it, or give this one a database of its own`,
  );
}

/** For the person who starts the server. */
function invalid(error: unknown, description: string): unknown {
  if (!(error instanceof ConnectionLost)) return error;
  return new CaissonError("INVALID_CONFIG", `Cannot use the database: ${adviceOn(error, description)}`, {
    cause: error,
  });
}
