import { after, before, suite } from "node:test";
import { storeConformance } from "../../testing/conformance.ts";
import { PostgresServer } from "../../testing/postgres-server.ts";
import { openPostgresStore } from "./postgres-store.ts";

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
    return {
      store,
      async reopen() {
        await store.close();
        store = await openPostgresStore(url, installation, hooks);
        return store;
      },
      dispose: () => store.close(),
    };
  });
});
