import type pg from "pg";

/** How long the database has to answer a farewell. */
const FAREWELL_MS = 2_000;

/** Ends a connection, whatever state it is in. Never rejects. */
export async function endClient(client: pg.Client): Promise<void> {
  cutLate(client);
  try {
    await client.end();
  } catch {
    // It has ended already.
  }
}

/** Cuts a connection that is being ended, unless its end comes in time: a machine that has vanished while it was idle says nothing, for a quarter of an hour. */
export function cutLate(client: pg.Client): void {
  // A connection that stands keeps the process going by itself.
  const timer = setTimeout(() => client.connection.stream.destroy(), FAREWELL_MS).unref();
  client.once("end", () => clearTimeout(timer));
}
