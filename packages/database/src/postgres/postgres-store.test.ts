import { after, before, suite } from "node:test";
import { storeConformance } from "../../testing/conformance.ts";
import { PostgresServer } from "../../testing/postgres-server.ts";
import { parseConnectionUrl } from "./connection-options.ts";
import { Database } from "./database.ts";
import { openPostgresStore, storesOf } from "./postgres-store.ts";

const installation = { id: "test", dataDirectory: "/test" };
const hooks = {
  onDisplaced(error: Error): void {
    throw error;
  },
};

suite("PostgreSQL", () => {
  let server: PostgresServer;
  before(async () => {
    server = await PostgresServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  storeConformance("PostgreSQL", async () => {
    const url = await server.createDatabase();
    let store = await openPostgresStore(url, installation, hooks);
    const others = new AsyncDisposableStack();
    return {
      store,
      async openSecond() {
        // One server owns the database; its generation is the first one's.
        return storesOf(others.use(new Database(parseConnectionUrl(url), 1, hooks)));
      },
      async reopen() {
        await store.close();
        store = await openPostgresStore(url, installation, hooks);
        return store;
      },
      async dispose() {
        await others.disposeAsync();
        await store.close();
      },
    };
  });
});
