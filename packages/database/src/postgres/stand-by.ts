import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import type pg from "pg";
import type { ConnectionOptions } from "./connection-options.ts";
import { endClient } from "./end-client.ts";
import { ConnectionLost, classify, isTooSlow, sqlState } from "./failures.ts";
import { findLeader, type Leader, requireShared } from "./leadership.ts";
import { LOCKS, lockKeys } from "./locks.ts";
import { answered, connectOnce, tryLock } from "./owner-connection.ts";

/** How soon the death of the one that leads is noticed. */
const LOOK_INTERVAL_MS = 500;
/** How long a connection that is ended has its lock still: shorter than what one that was not frozen at all needs to take it again. */
const ENDED_PAUSE_MS = 50;
/** After an outage of the database, the one that led gets its lock again first: it tries every second. */
const OUTAGE_PAUSE_MS = 3_000;
/** The one that leads renews its lease over the connection that holds the lock, more often than that. */
const SILENCE = "6 s";
/** In the middle of a transaction it may be at something else, such as reading what it copies. */
const SILENCE_IN_TRANSACTION = "15 s";
const NOT_ALLOWED = "42501";

/** What a server does while another one leads. */
export interface StandBy {
  /** Called at first, and when the one that leads is another one, or is reached elsewhere. What it throws ends the waiting. */
  onLeader(leader: Leader): Promise<void>;
  /** The database is away, or a problem keeps this server from taking over; it is tried again. Called for the first of several. */
  onProblem(error: unknown): void;
}

/**
 * Waits until this server has the database, however long: until the one that leads has ended, or has not renewed its lease. Then that one may be frozen, so its connections are ended, and with
 * them what it was about to write. Returns the connection that holds the owner's lock. Throws `INVALID_CONFIG` when nobody can stand by for the one that leads.
 */
export async function waitToLead(options: ConnectionOptions, first: pg.Client, standBy: StandBy): Promise<pg.Client> {
  let client: pg.Client | null = first;
  let isTold = false;
  const leaders = new ToldLeaders(standBy);
  for (;;) {
    try {
      if (client === null) {
        client = await connectOnce(options);
        await delay(OUTAGE_PAUSE_MS);
      }
      await untilOwned(client, options.description, leaders, () => {
        isTold = false;
      });
      return client;
    } catch (error) {
      if (client !== null) await endClient(client);
      client = null;
      if (error === leaders.failure || !isPassing(error)) throw error;
      if (!isTold) standBy.onProblem(error);
      isTold = true;
      await delay(LOOK_INTERVAL_MS);
    }
  }
}

/** `onLook` is called after each look at the database that went well. */
async function untilOwned(
  client: pg.Client,
  description: string,
  leaders: ToldLeaders,
  onLook: () => void,
): Promise<void> {
  while (!(await answered(client, () => tryLock(client)))) {
    const leader = await answered(client, () => findLeader(client));
    if (leader !== null) {
      requireShared(leader, description);
      await leaders.tell(leader);
    }
    const isOver = leader !== null && leader.leaseLeftMs < 0;
    const isEnded = isOver && (await answered(client, () => endFrozenOwner(client)));
    onLook();
    await delay(isEnded ? ENDED_PAUSE_MS : LOOK_INTERVAL_MS);
  }
}

/** Tells of the one that leads when it is not the one that was told of last. */
class ToldLeaders {
  readonly #standBy: StandBy;
  #told = "";
  /** What the one who was told has thrown. */
  failure: unknown = null;

  constructor(standBy: StandBy) {
    this.#standBy = standBy;
  }

  async tell(leader: Leader): Promise<void> {
    const { leaseLeftMs: _, ...what } = leader;
    const text = JSON.stringify(what);
    if (text === this.#told) return;
    this.#told = text;
    try {
      await this.#standBy.onLeader(leader);
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }
}

/**
 * Ends the connection that holds the owner's lock, and those in the middle of a transaction, if nothing has come over that one lately. It is not that of a server which is only migrating the schema, or has the
 * lock and is about to claim the database: the lease is then still that of the one before. Returns whether any was ended.
 */
async function endFrozenOwner(client: pg.Client): Promise<boolean> {
  const { owner, takeover } = LOCKS;
  // What another user's connection does is not shown: then the attempt to end it tells what is wrong.
  const sql = `WITH held AS (
      SELECT pid, (classid::bigint, objid::bigint) = (${unsigned(owner)}) AS is_owner FROM pg_locks
      WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint, objid::bigint) IN ((${unsigned(owner)}), (${unsigned(takeover)}))
    )
    SELECT pg_terminate_backend(pid) FROM held WHERE EXISTS (
      SELECT FROM held AS owner JOIN pg_stat_activity AS activity ON activity.pid = owner.pid
      WHERE is_owner AND (state IS NULL
        OR (state = 'idle' AND state_change < clock_timestamp() - interval '${SILENCE}')
        OR (state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - interval '${SILENCE_IN_TRANSACTION}'))
    )`;
  try {
    return ((await client.query(sql)).rowCount ?? 0) > 0;
  } catch (error) {
    if (sqlState(error) !== NOT_ALLOWED) throw error;
    throw new EndRefused(
      "The server that leads is frozen, and its connections to the database may not be ended: give all servers the same database user",
      { cause: error },
    );
  }
}

class EndRefused extends Error {}

/** The keys of a lock as `pg_locks` shows them: without a sign. */
function unsigned(lock: number): string {
  const [space, name] = lockKeys(lock).split(", ");
  return `${space}::bigint, ${name}::bigint & 4294967295`;
}

function isPassing(error: unknown): boolean {
  if (error instanceof EndRefused || isTooSlow(error)) return true;
  const lost = error instanceof CaissonError ? error.cause : classify(error);
  return lost instanceof ConnectionLost;
}
