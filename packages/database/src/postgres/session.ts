import pg, { type ClientBase } from "pg";
import type { Row } from "../records.ts";
import { ConnectionLost } from "./failures.ts";

/** What is known of a connection's server. */
export interface Session {
  /** Changes when a standby takes over. */
  readonly timeline: string;
}

/** How long a statement may run, wait for a row, and a transaction do nothing. */
const STATEMENT_TIMEOUT_MS = 30_000;
const LOCK_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 30_000;

// JSON stays text, as in SQLite; whole numbers fit a number: sizes in bytes are below 2^53.
const { builtins } = pg.types;
export const TYPES: pg.CustomTypesConfig = {
  getTypeParser(id, format) {
    if (id === builtins.INT8 || id === builtins.NUMERIC) return Number;
    if (id === builtins.JSON) return String;
    return pg.types.getTypeParser(id, format);
  },
};

/**
 * Sets up a new connection: what was answered is on stable storage whatever the server's own default is, and nothing waits without an end. No statement is compiled or
 * shared out among processes: all are short, and that takes 20 ms where the planner expects many rows of a part that is then not run.
 * Throws `ConnectionLost` for a standby, which takes no writes.
 */
export async function setUpSession(client: ClientBase): Promise<Session> {
  const sql = `
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
    SET statement_timeout = ${STATEMENT_TIMEOUT_MS}; SET lock_timeout = ${LOCK_TIMEOUT_MS};
    SET idle_in_transaction_session_timeout = ${IDLE_TIMEOUT_MS}; SET jit = off; SET max_parallel_workers_per_gather = 0;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply';
    SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline`;
  const results = (await client.query(sql)) as unknown as readonly pg.QueryResult<Row>[];
  const timeline = results.at(-1)?.rows[0]?.timeline;
  if (typeof timeline === "string") return { timeline };
  throw new ConnectionLost(new Error("it is a standby, which takes no writes"));
}
