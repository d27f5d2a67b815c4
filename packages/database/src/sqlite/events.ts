import { toEvent } from "../records.ts";
import type { AuditEvent, EventStore } from "../store.ts";
import type { Connection } from "./connection.ts";

export function createEventStore(connection: Connection): EventStore {
  return {
    async record(event) {
      writeEvent(connection, event);
    },

    async list(organizationId, objectId, limit) {
      // By itself each condition has an order to read in; with an OR of both, every line of the organization would be read.
      const rows =
        objectId === null
          ? connection.all(
              "SELECT * FROM events WHERE organization_id = ? ORDER BY sequence DESC LIMIT ?",
              organizationId,
              limit,
            )
          : connection.all(
              "SELECT * FROM events WHERE object_id = ? AND organization_id = ? ORDER BY sequence DESC LIMIT ?",
              objectId,
              organizationId,
              limit,
            );
      return rows.map(toEvent);
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
