import { toEvent } from "../records.ts";
import type { AuditEvent, EventStore } from "../store.ts";
import type { Connection } from "./connection.ts";

export function createEventStore(connection: Connection): EventStore {
  return {
    async record(event) {
      writeEvent(connection, event);
    },

    async list(organizationId, objectId, limit) {
      return connection
        .all(
          "SELECT * FROM events WHERE organization_id = ? AND (? IS NULL OR object_id = ?) ORDER BY sequence DESC LIMIT ?",
          organizationId,
          objectId,
          objectId,
          limit,
        )
        .map(toEvent);
    },

    async expire(beforeMs) {
      connection.run("DELETE FROM events WHERE at_ms < ?", beforeMs);
    },
  };
}

/** Writes a line of the trail, in the transaction that is under way. */
export function writeEvent(connection: Connection, event: AuditEvent): void {
  connection.run(
    "INSERT INTO events (organization_id, at_ms, actor, verb, object_id, outcome, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
    event.organizationId,
    event.atMs,
    event.actor,
    event.verb,
    event.objectId,
    event.outcome,
    JSON.stringify(event.detail),
  );
}
