import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import pg from "pg";
import type { Row } from "../records.ts";
import type { ConnectionOptions } from "./connection-options.ts";
import { endClient } from "./end-client.ts";
import { adviceOn, ConnectionLost, classify } from "./failures.ts";
import { LOCKS, lockKeys } from "./locks.ts";
import { setUpSession } from "./session.ts";

const PAUSE_MS = 200;
/** Longer than any statement of an owner takes, but for migrations. */
const ANSWER_WAIT_MS = 10_000;

/** Its statements may take long: a migration of a large table. Errors between two statements show as the end of the connection. */
export function newClient({ config }: ConnectionOptions): pg.Client {
  const client = new pg.Client({ ...config, query_timeout: 0 });
  client.on("error", () => {});
  return client;
}

/** Nothing answers before the database server is up, which is waited for; what it then refuses stays refused. */
export async function connectWithin(options: ConnectionOptions, untilMs: number): Promise<pg.Client> {
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
    await endClient(client);
    throw invalid(classify(error), options.description);
  }
}

/** The database server notices within half a minute that the machine of an owner is gone. */
export async function setUpOwner(client: pg.Client): Promise<void> {
  await setUpSession(client);
  await client.query("SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3");
}

/** Ends the connection when statements on it have no answer in time: a machine that has vanished says nothing, for a quarter of an hour. */
export async function answered<T>(client: pg.Client, ask: () => Promise<T>): Promise<T> {
  const timer = setTimeout(() => void endClient(client), ANSWER_WAIT_MS);
  try {
    return await ask();
  } finally {
    clearTimeout(timer);
  }
}

export async function lockWithin(client: pg.Client, untilMs: number): Promise<boolean> {
  while (!(await tryLock(client))) {
    if (Date.now() > untilMs) return false;
    await delay(PAUSE_MS);
  }
  return true;
}

export async function tryLock(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<Row>(`SELECT pg_try_advisory_lock(${lockKeys(LOCKS.owner)}) AS is_locked`);
  return rows[0]?.is_locked === true;
}

/** For the person who starts the server. */
export function invalid(error: unknown, description: string): unknown {
  if (!(error instanceof ConnectionLost)) return error;
  return new CaissonError("INVALID_CONFIG", `Cannot use the database: ${adviceOn(error, description)}`, {
    cause: error,
  });
}
