import type pg from "pg";

/** How long the database has to answer a farewell. */
const FAREWELL_MS = 2_000;

/** Ends a connection, whatever state it is in. Never rejects. */
export function endClient(client: pg.Client): Promise<void> {
  return endWithin([client], client.end());
}

/** Waits for the end of connections that was asked for. A machine that has vanished while they were idle says nothing, for a quarter of an hour: then they are cut. Never rejects. */
export async function endWithin(clients: Iterable<pg.Client>, ending: Promise<void>): Promise<void> {
  const timer = setTimeout(() => {
    for (const { connection } of clients) connection.stream.destroy();
  }, FAREWELL_MS);
  try {
    await ending;
  } catch {
    // It has ended already.
  } finally {
    clearTimeout(timer);
  }
}
