import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import type pg from "pg";
import type { ConnectionOptions } from "./connection-options.ts";
import { ConnectionLost, classify } from "./failures.ts";
import { findLeader, type Leader, requireShared } from "./leadership.ts";
import { LOCKS, lockKeys } from "./locks.ts";
import { connectOnce, tryLock } from "./owner-connection.ts";

/** How soon the death of the one that leads is noticed. */
const LOOK_INTERVAL_MS = 500;
/** How long a connection that is ended has its lock still: shorter than what one that was not frozen at all needs to take it again. */
const ENDED_PAUSE_MS = 50;
/** After an outage of the database, the one that led gets its lock again first. */
const OUTAGE_PAUSE_MS = 3_000;

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
  let isAway = false;
  const leaders = new ToldLeaders(standBy);
  for (;;) {
    try {
      client ??= await connectOnce(options);
      await untilOwned(client, options.description, leaders);
      return client;
    } catch (error) {
      await client?.end().catch(() => {});
      client = null;
      if (error === leaders.failure || !isPassing(error)) throw error;
      if (!isAway) standBy.onProblem(error);
      isAway = true;
      await delay(OUTAGE_PAUSE_MS);
    }
  }
}

async function untilOwned(client: pg.Client, description: string, leaders: ToldLeaders): Promise<void> {
  while (!(await tryLock(client))) {
    const leader = await findLeader(client);
    if (leader !== null) {
      requireShared(leader, description);
      await leaders.tell(leader);
    }
    const isFrozen = leader !== null && leader.leaseLeftMs < 0;
    if (isFrozen) await endOwner(client);
    await delay(isFrozen ? ENDED_PAUSE_MS : LOOK_INTERVAL_MS);
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

/** Ends the connection that holds the owner's lock, and those in the middle of a transaction. */
async function endOwner(client: pg.Client): Promise<void> {
  await client.query(
    `SELECT pg_terminate_backend(pid) FROM pg_locks
     WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND objsubid = 2
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (classid::bigint, objid::bigint) IN (${[LOCKS.owner, LOCKS.takeover].map((lock) => `(${unsigned(lock)})`).join(", ")})`,
  );
}

/** The keys of a lock as `pg_locks` shows them: without a sign. */
function unsigned(lock: number): string {
  const [space, name] = lockKeys(lock).split(", ");
  return `${space}::bigint, ${name}::bigint & 4294967295`;
}

function isPassing(error: unknown): boolean {
  const lost = error instanceof CaissonError ? error.cause : classify(error);
  return lost instanceof ConnectionLost;
}
