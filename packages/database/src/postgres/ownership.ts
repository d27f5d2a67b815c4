import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import type pg from "pg";
import type { Row } from "../records.ts";
import type { ConnectionOptions } from "./connection-options.ts";
import { endClient } from "./end-client.ts";
import { classify, takenByAnother } from "./failures.ts";
import { LEASE_MS, NOW_MS, RENEW_INTERVAL_MS } from "./leadership.ts";
import { LOCKS, lockKeys } from "./locks.ts";
import { migrate, requireUsableServer } from "./migrations.ts";
import { answered, connectWithin, invalid, lockWithin, newClient, setUpOwner, tryLock } from "./owner-connection.ts";
import { type StandBy, waitToLead } from "./stand-by.ts";

/** A server that has just been killed may still be going, and a database server may still be starting. */
export const START_WAIT_MS = 10_000;
const PAUSE_MS = 200;
/** Less than others wait after an outage. */
const LONGEST_PAUSE_MS = 1_000;

/** Which data directory the rows belong to: the volumes that they tell of are there. */
export interface Installation {
  /** Kept in the data directory, too. */
  readonly id: string;
  readonly dataDirectory: string;
  /** Its rows are in PostgreSQL already, so a database without them is the wrong one. Default: false. */
  readonly hasRows?: boolean;
  /** The server has no disks of its own, so that others, with directories of their own, may stand by and take its place. Default: false. */
  readonly isShared?: boolean;
}

export interface OwnershipWait {
  /** For a database server that does not answer yet, and for another server that is ending. Default: 10 s. */
  readonly waitMs?: number | undefined;
  /** What to do while another server leads. Default: it is an error that one does. */
  readonly standBy?: StandBy | null;
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
  /** What this server has claimed the database with; null: nothing yet. */
  #generation: number | null = null;
  #renewing: Promise<void> = Promise.resolve();
  #onDisplaced: (error: Error) => void = () => {};

  private constructor(options: ConnectionOptions, client: pg.Client, schemaVersion: number) {
    this.#options = options;
    this.#client = client;
    this.schemaVersion = schemaVersion;
    this.#watch(client);
  }

  /**
   * Connects, brings the schema up to date, and waits for the lock: a little, or to stand by, for as long as another server has it. Throws `INVALID_CONFIG` that says what is wrong: no connection,
   * a server that is too old, an extension that is not there, another server that owns the database.
   */
  static async take(
    options: ConnectionOptions,
    { waitMs = START_WAIT_MS, standBy = null }: OwnershipWait = {},
  ): Promise<Ownership> {
    let client = await connectWithin(options, Date.now() + waitMs);
    try {
      await requireUsableServer(client, options.description);
      if (standBy !== null) client = await waitToLead(options, client, standBy);
      else if (!(await lockWithin(client, Date.now() + waitMs)))
        throw await ownedByAnother(client, options.description);
      return new Ownership(options, client, await migrate(client, options.description));
    } catch (error) {
      await endClient(client);
      throw error instanceof CaissonError ? error : invalid(classify(error), options.description);
    }
  }

  /** Queries on the connection that holds the lock, while nothing else uses it. */
  get client(): pg.Client {
    return this.#client;
  }

  /**
   * Makes the database this installation's, and keeps every server before this one from writing. `onDisplaced` is called when another server has claimed it since. Throws `INVALID_CONFIG` when it is
   * another's, lacks the rows, or is that of a server which has a node of its own elsewhere.
   */
  async claim(installation: Installation, onDisplaced: (error: Error) => void = () => {}): Promise<number> {
    const client = this.#client;
    await client.query("BEGIN");
    try {
      // Transactions of a server that has lost its lock, and does not know it yet, end first.
      await client.query(`SELECT pg_advisory_xact_lock(${lockKeys(LOCKS.takeover)})`);
      const found = (
        await client.query<Row>("SELECT id, host, data_directory, is_shared, lease_until_ms FROM installation")
      ).rows[0];
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
      if (found !== undefined && installation.isShared === true) requireNoOwnNode(found, installation);
      const { rows } = await client.query<Row>(
        `INSERT INTO installation (id, generation, host, data_directory, is_shared, lease_until_ms) VALUES ($1, 1, $2, $3, $4, ${NOW_MS} + ${LEASE_MS})
         ON CONFLICT (only_row) DO UPDATE SET generation = installation.generation + 1, host = excluded.host, data_directory = excluded.data_directory,
           is_shared = excluded.is_shared, address = NULL, lease_until_ms = excluded.lease_until_ms
         RETURNING generation`,
        [installation.id, hostname(), installation.dataDirectory, installation.isShared === true],
      );
      await client.query("COMMIT");
      this.#generation = Number(rows[0]?.generation);
      this.#onDisplaced = onDisplaced;
      this.#renewing = this.#renew();
      return this.#generation;
    } catch (error) {
      await client.query("ROLLBACK").catch(() => {});
      throw error instanceof CaissonError ? error : invalid(classify(error), this.#options.description);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#keeping;
    const ending = endClient(this.#client);
    await this.#renewing;
    await ending;
  }

  /** Says again and again that this server is there, so that no other one takes it for frozen. */
  async #renew(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      // Without a connection it says nothing, until there is one again.
      if (!(await this.#renewLease(this.#client).catch(() => true))) return this.#tellDisplaced();
      await delay(RENEW_INTERVAL_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** False: another server has claimed the database since. */
  async #renewLease(client: pg.Client): Promise<boolean> {
    if (this.#generation === null) return true;
    const sql = `UPDATE installation SET lease_until_ms = ${NOW_MS} + ${LEASE_MS} WHERE generation = $1`;
    return (await answered(client, () => client.query(sql, [this.#generation]))).rowCount === 1;
  }

  #tellDisplaced(): void {
    if (!this.#closing.signal.aborted) this.#onDisplaced(takenByAnother(this.#options.description));
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
        await answered(client, () => setUpOwner(client));
        if (!(await this.#renewLease(client))) {
          await endClient(client);
          return this.#tellDisplaced();
        }
        if (await answered(client, () => tryLock(client))) {
          this.#client = client;
          this.#watch(client);
          return;
        }
      } catch {
        // Tried again.
      }
      await endClient(client);
    }
  }
}

/**
 * A server with a node of its own may have lost its connection for a moment, and what it has is nowhere else. One that has never renewed a lease is from before servers stood by, or was only copied.
 */
function requireNoOwnNode(found: Row, { dataDirectory }: Installation): void {
  const isElsewhere = found.host !== hostname() || found.data_directory !== dataDirectory;
  if (found.is_shared === true || Number(found.lease_until_ms) === 0 || !isElsewhere) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `The server on ${found.host} (data in ${found.data_directory}) used the database last, and has a node of its own, so that none may take its place: start it once there with --role control. ` +
      "If that is gone for ever with what it had, run UPDATE installation SET is_shared = true in the database",
  );
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
