import { setTimeout as delay } from "node:timers/promises";
import { CaissonError, UnknownOutcomeError } from "@caisson/model";
import pg from "pg";
import type { Row } from "../records.ts";
import type { ConnectionOptions } from "./connection-options.ts";
import { cutLate } from "./end-client.ts";
import { adviceOn, ConnectionLost, classify, explain, isRolledBack, takenByAnother } from "./failures.ts";
import { LOCKS, lockKeys } from "./locks.ts";
import { type Session, setUpSession } from "./session.ts";

/** Passed before each commit (`database.commit`) and before its answer is believed (`database.answer`), with other tags for the renewal of a lease; a test may throw or end the process there. */
export type FaultPoint = (tag: string) => void | Promise<void>;

const POOL_SIZE = 16;
const DELETE_BATCH = 10_000;
const OUTAGE_WAIT_MS = 5_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 500;

export type Value = string | number | boolean | null | Uint8Array | readonly string[] | readonly boolean[];

/** Statements on one connection. Those of one text are prepared once on each connection. */
export class Queries {
  readonly #client: pg.ClientBase;
  readonly #names: Map<string, string>;
  readonly #isReading: boolean;

  constructor(client: pg.ClientBase, names: Map<string, string>, { isReading }: { readonly isReading: boolean }) {
    this.#client = client;
    this.#names = names;
    this.#isReading = isReading;
  }

  async get(sql: string, ...values: readonly Value[]): Promise<Row | undefined> {
    return (await this.all(sql, ...values))[0];
  }

  async all(sql: string, ...values: readonly Value[]): Promise<readonly Row[]> {
    return (await this.#query({ name: this.#nameOf(sql), text: sql, values: [...values] })).rows;
  }

  /** For a statement whose best plan depends on its values. */
  async allPlannedAnew(sql: string, ...values: readonly Value[]): Promise<readonly Row[]> {
    return (await this.#query({ text: sql, values: [...values] })).rows;
  }

  /** Runs a statement and returns how many rows it changed. */
  async run(sql: string, ...values: readonly Value[]): Promise<number> {
    return (await this.#query({ name: this.#nameOf(sql), text: sql, values: [...values] })).rowCount ?? 0;
  }

  #nameOf(sql: string): string {
    const name = this.#names.get(sql) ?? `caisson_${this.#names.size}`;
    this.#names.set(sql, name);
    return name;
  }

  async #query(
    query: pg.QueryConfig<Value[]>,
  ): Promise<{ readonly rows: readonly Row[]; readonly rowCount: number | null }> {
    // PostgreSQL has no zero character in texts, so nothing that is stored is equal to one.
    if (query.values?.some((value) => typeof value === "string" && value.includes("\0")) === true) {
      if (this.#isReading) return { rows: [], rowCount: 0 };
      throw new CaissonError("INVALID_REQUEST", "A text has a zero character, which cannot be stored: leave it out");
    }
    try {
      return await this.#client.query<Row>(query);
    } catch (error) {
      throw classify(error);
    }
  }
}

export interface DatabaseOptions {
  readonly faultPoint?: FaultPoint;
  /** Another server has taken the database: nothing can be written any more, for ever. */
  onDisplaced(error: Error): void;
  /** How long a call waits for a database that is away; default: 5 s. */
  readonly outageWaitMs?: number;
  /** How long a start waits for a database server that does not answer yet, and for another server that is ending; default: 10 s. */
  readonly startWaitMs?: number;
}

/**
 * A pool of connections to one database. A call waits a few seconds for a database that is away. It repeats reads, and changes that certainly did not
 * happen; of a commit whose answer was lost it asks the database what became of it.
 */
export class Database {
  readonly #pool: pg.Pool;
  /** All whose end is not over. */
  readonly #clients = new Set<pg.Client>();
  /** Those that run something. */
  readonly #busy = new Set<pg.Client>();
  #isClosing = false;
  readonly #closed = Promise.withResolvers<void>();
  readonly #description: string;
  readonly #options: DatabaseOptions;
  readonly #names = new Map<string, string>();
  readonly #sessions = new WeakMap<pg.ClientBase, Session>();
  /** This server's, without which nothing may be written. */
  readonly generation: number;

  constructor({ config, description }: ConnectionOptions, generation: number, options: DatabaseOptions) {
    this.#description = description;
    this.generation = generation;
    this.#options = options;
    this.#pool = new pg.Pool({
      ...config,
      max: POOL_SIZE,
      onConnect: async (client) => {
        this.#sessions.set(client, await setUpSession(client));
      },
    });
    this.#pool.on("connect", (client) => this.#clients.add(client));
    this.#pool.on("acquire", (client) => this.#busy.add(client));
    this.#pool.on("release", (_, client) => this.#onReleased(client));
    this.#pool.on("remove", (client) => this.#onRemoved(client));
    // An idle connection that ends is replaced when it is needed.
    this.#pool.on("error", () => {});
  }

  /** Reads, on one connection; repeated when that is lost. */
  read<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#patiently((untilMs) =>
      this.#withClient(untilMs, (client) => work(new Queries(client, this.#names, { isReading: true }))),
    );
  }

  /** Reads as of one moment, on one connection, however long that takes. It is not repeated when the connection is lost. */
  readSnapshot<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    const untilMs = Date.now() + (this.#options.outageWaitMs ?? OUTAGE_WAIT_MS);
    return this.#withClient(untilMs, async (client) => {
      await send(client, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
      try {
        return await work(new Queries(client, this.#names, { isReading: true }));
      } finally {
        await send(client, "ROLLBACK");
      }
    }).catch((error: unknown) => {
      throw explain(error, this.#description);
    });
  }

  /** Runs `work` in one transaction; an exception rolls it back. It may run more than once, so it does nothing but queries. `name`: the first part of the fault tags. */
  transaction<T>(work: (queries: Queries) => Promise<T>, name = "database"): Promise<T> {
    return this.#patiently(async (untilMs) => {
      try {
        return await this.#withClient(untilMs, (client) => this.#attempt(client, name, work));
      } catch (error) {
        if (!(error instanceof AnswerLost)) throw error;
        if (await this.#hasCommitted(error, untilMs)) return error.result as T;
        throw new ConnectionLost(error.cause);
      }
    });
  }

  /** Deletes the rows that a condition on `$1` finds, some at a time: no statement takes long, however many there are. */
  async deleteAll(table: string, condition: string, value: Value): Promise<void> {
    const sql = `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${table} WHERE ${condition} LIMIT ${DELETE_BATCH}))`;
    while ((await this.transaction((queries) => queries.run(sql, value))) === DELETE_BATCH);
  }

  /** What is under way may end, also with its commit. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    for (const client of this.#clients) if (!this.#busy.has(client)) cutLate(client);
    // The pool forgets idle connections at once, and does not wait for their end.
    await this.#pool.end();
    if (this.#clients.size > 0) await this.#closed.promise;
  }

  #onReleased(client: pg.Client): void {
    this.#busy.delete(client);
    if (this.#isClosing) cutLate(client);
  }

  #onRemoved(client: pg.Client): void {
    this.#clients.delete(client);
    if (this.#isClosing && this.#clients.size === 0) this.#closed.resolve();
  }

  async #attempt<T>(client: pg.PoolClient, name: string, work: (queries: Queries) => Promise<T>): Promise<T> {
    const queries = new Queries(client, this.#names, { isReading: false });
    const transactionId = await this.#begin(client);
    let result: T;
    try {
      result = await work(queries);
      await this.#options.faultPoint?.(`${name}.commit`);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) await send(client, "ROLLBACK");
      throw error;
    }
    const timeline = this.#sessions.get(client)?.timeline ?? "";
    try {
      await send(client, "COMMIT");
      await this.#options.faultPoint?.(`${name}.answer`);
      return result;
    } catch (error) {
      // What the database itself refuses has not happened.
      if (error instanceof pg.DatabaseError) throw error;
      throw new AnswerLost(error, { result, transactionId, timeline });
    }
  }

  /**
   * Begins in one round trip. The lock is shared among transactions; a server that takes the database waits for it, so that no transaction of the
   * one before ends after that.
   */
  async #begin(client: pg.PoolClient): Promise<string> {
    const results = await send(
      client,
      `BEGIN; SELECT pg_advisory_xact_lock_shared(${lockKeys(LOCKS.takeover)});
       SELECT generation::int8 AS generation, pg_current_xact_id()::text AS transaction_id FROM installation`,
    );
    const row = Array.isArray(results) ? (results.at(-1) as pg.QueryResult<Row>).rows[0] : undefined;
    if (Number(row?.generation) === this.generation) return String(row?.transaction_id);
    await send(client, "ROLLBACK");
    const error = takenByAnother(this.#description);
    this.#options.onDisplaced(error);
    throw error;
  }

  /** What became of a commit whose answer was lost. Throws `UnknownOutcomeError` when that cannot be found out. */
  async #hasCommitted({ transactionId, timeline, cause }: AnswerLost, untilMs: number): Promise<boolean> {
    let reason = cause;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        const row = await this.#withClient(untilMs, async (client) => {
          const isSame = this.#sessions.get(client)?.timeline === timeline;
          const queries = new Queries(client, this.#names, { isReading: true });
          // A standby that was promoted counts its transactions for itself.
          return isSame ? queries.get("SELECT pg_xact_status($1::xid8) AS status", transactionId) : undefined;
        });
        if (row?.status === "committed") return true;
        if (row?.status === "aborted") return false;
        if (row?.status !== "in progress") break;
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
        reason = error;
      }
      if (Date.now() + pauseMs > untilMs) break;
      await delay(pauseMs);
    }
    const lost = reason instanceof ConnectionLost ? reason : new ConnectionLost(reason);
    throw new UnknownOutcomeError(
      `The database was lost while it recorded a change, and nobody knows whether it did: ${adviceOn(lost, this.#description)}. Then look whether the change was made before you repeat it`,
      { cause: lost },
    );
  }

  /** A connection that was lost, or failed in a way of its own, is not used again. */
  async #withClient<T>(untilMs: number, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#connect(untilMs);
    let isBroken = true;
    // Without a listener an error between two statements would end the process; the next statement reports it.
    const ignore = (): void => {};
    client.on("error", ignore);
    try {
      const result = await work(client);
      isBroken = false;
      return result;
    } catch (error) {
      isBroken = error instanceof ConnectionLost;
      throw error;
    } finally {
      client.off("error", ignore);
      client.release(isBroken);
    }
  }

  async #connect(untilMs: number): Promise<pg.PoolClient> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        return await this.#pool.connect();
      } catch (error) {
        const lost = classify(error);
        if (!(lost instanceof ConnectionLost) || !lost.isPassing || Date.now() + pauseMs > untilMs) throw lost;
      }
      await delay(pauseMs);
    }
  }

  /** Repeats what certainly did not happen, for as long as an outage is waited for. */
  async #patiently<T>(attempt: (untilMs: number) => Promise<T>): Promise<T> {
    const untilMs = Date.now() + (this.#options.outageWaitMs ?? OUTAGE_WAIT_MS);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        return await attempt(untilMs);
      } catch (error) {
        const mayPass = error instanceof ConnectionLost ? error.isPassing : isRolledBack(error);
        if (!mayPass || Date.now() + pauseMs > untilMs) throw explain(error, this.#description);
      }
      // Not in step with others that were rolled back with it.
      await delay(pauseMs * (0.5 + Math.random()));
    }
  }
}

/** A commit was sent, and what became of it is not known. */
class AnswerLost extends ConnectionLost {
  /** What the transaction resolves to if it stands. */
  readonly result: unknown;
  readonly transactionId: string;
  /** Of the database server, which a failover changes. */
  readonly timeline: string;

  constructor(cause: unknown, attempt: Pick<AnswerLost, "result" | "transactionId" | "timeline">) {
    super(cause);
    this.result = attempt.result;
    this.transactionId = attempt.transactionId;
    this.timeline = attempt.timeline;
  }
}

async function send(client: pg.ClientBase, sql: string): Promise<pg.QueryResult | pg.QueryResult[]> {
  try {
    return await client.query(sql);
  } catch (error) {
    throw classify(error);
  }
}
