import { type Row, toEvent } from "../records.ts";
import type { AuditEvent, EventStore } from "../store.ts";
import type { Database, Queries, Value } from "./database.ts";

const COLUMNS = "organization_id, at_ms, actor, verb, object_id, outcome, detail";
const TYPES = ["text", "bigint", "text", "text", "text", "text", "json"];

export function createEventStore(database: Database): EventStore {
  return {
    async record(event) {
      await database.transaction((queries) => writeEvent(queries, event));
    },

    async list(organizationId, objectId, limit) {
      const rows = await database.read((queries) =>
        objectId === null
          ? queries.all(
              "SELECT * FROM events WHERE organization_id = $1 ORDER BY sequence DESC LIMIT $2",
              organizationId,
              limit,
            )
          : queries.all(
              "SELECT * FROM events WHERE organization_id = $1 AND object_id = $2 ORDER BY sequence DESC LIMIT $3",
              organizationId,
              objectId,
              limit,
            ),
      );
      return rows.map(toEvent);
    },

    async expire(beforeMs) {
      await database.deleteAll("events", "at_ms < $1", beforeMs);
    },
  };
}

/** Writes a line of the trail, in the transaction that is under way. */
export async function writeEvent(queries: Queries, event: AuditEvent): Promise<void> {
  await queries.run(`INSERT INTO events (${COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)`, ...eventValues(event));
}

/**
 * Runs a change, and writes its line of the trail in the same statement when it changed a row. Returns that row. `sql` is an UPDATE, INSERT or DELETE
 * of at most one row.
 */
export function changeWithEvent(
  queries: Queries,
  sql: string,
  values: readonly Value[],
  event: AuditEvent,
): Promise<Row | undefined> {
  const parameters = TYPES.map((type, index) => `$${values.length + index + 1}::${type}`).join(", ");
  return queries.get(
    `WITH changed AS (${sql} RETURNING *), told AS (INSERT INTO events (${COLUMNS}) SELECT ${parameters} FROM changed) SELECT * FROM changed`,
    ...values,
    ...eventValues(event),
  );
}

function eventValues(event: AuditEvent): readonly Value[] {
  const { organizationId, atMs, actor, verb, objectId, outcome, detail } = event;
  return [organizationId, atMs, actor, verb, objectId, outcome, JSON.stringify(detail)];
}
