import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CaissonError, isRefusal, UnknownOutcomeError } from "@caisson/model";
import type pg from "pg";
import { CutProxy } from "../../testing/cut-proxy.ts";
import { assertOlderRowsAreSettled, OLDER_ROWS } from "../../testing/older-rows.ts";
import { PostgresServer } from "../../testing/postgres-server.ts";
import {
  SAMPLE_ORGANIZATION,
  SAMPLE_OWNER,
  sampleDisk,
  sampleEvent,
  sampleNode,
  samplePlaces,
  sampleSandbox,
  sampleUsage,
} from "../../testing/samples.ts";
import type { Disk, NewDisk, Store } from "../store.ts";
import { parseConnectionUrl } from "./connection-options.ts";
import { Database } from "./database.ts";
import type { Leader } from "./leadership.ts";
import { migrate, requireUsableServer } from "./migrations.ts";
import { connectOnce } from "./owner-connection.ts";
import { Ownership } from "./ownership.ts";
import { findLeaderOf, openPostgresStore, storesOf } from "./postgres-store.ts";

const INSTALLATION = { id: "test", dataDirectory: "/data" };
/** Shorter waits than a server's: what is waited for here is there at once, or never. */
const unexpected = {
  outageWaitMs: 1500,
  startWaitMs: 500,
  onDisplaced(error: Error): void {
    throw error;
  },
};
const PLACES = samplePlaces({ perOrganization: 100 });
const event = sampleEvent;
const sandbox = sampleSandbox;
const disk = (slug: string): NewDisk => sampleDisk({ organizationId: SAMPLE_ORGANIZATION, slug });
/** What disks and sandboxes belong to. */
const prepare = async (store: Omit<Store, "close">): Promise<void> => {
  await store.organizations.create({ id: "org_a", slug: "a", createdAtMs: 1 }, event("org_a"));
  await store.nodes.begin(sampleNode(), 60_000);
};
const isUnavailable = (error: unknown): boolean =>
  error instanceof CaissonError && error.code === "DATABASE_UNAVAILABLE" && error.retryAfterSeconds !== null;

suite("a PostgreSQL database", () => {
  let server: PostgresServer;
  before(async () => {
    // The server's own default must not count.
    server = await PostgresServer.start({ settings: ["synchronous_commit=off", "deadlock_timeout=50ms"] });
  });
  after(() => server[Symbol.asyncDispose]());

  /** A store that is ready to be used, on a database of its own or the given one. */
  const open = async (url?: string): Promise<Store> => {
    const store = await openPostgresStore(url ?? (await server.createDatabase()), INSTALLATION, unexpected);
    await prepare(store);
    return store;
  };

  const make = async (store: Omit<Store, "close">, slug: string): Promise<string> => {
    const made = disk(slug);
    await store.disks.reserve(made);
    await store.disks.commit(made.id, { consistency: null, ...sampleUsage() }, event(made.id));
    return made.id;
  };

  /** Two stores with connections of their own on one database, as two processes would have. */
  const withTwo = async (work: (stores: readonly Omit<Store, "close">[]) => Promise<void>): Promise<void> => {
    const url = await server.createDatabase();
    const options = parseConnectionUrl(url);
    await (await open(url)).close();
    await using ownership = await Ownership.take(options);
    const generation = await ownership.claim(INSTALLATION);
    await using one = new Database(options, generation, unexpected);
    await using two = new Database(options, generation, unexpected);
    await work([storesOf(one), storesOf(two)]);
  };

  const countOf = (results: readonly PromiseSettledResult<unknown>[], status: "fulfilled" | "rejected"): number =>
    results.filter((result) => result.status === status).length;

  test("of 50 creates of one slug by two stores exactly one wins", () =>
    withTwo(async (stores) => {
      const work = Array.from({ length: 50 }, (_, index) => stores[index % 2]?.disks.reserve(disk("race")));
      const results = await Promise.allSettled(work);
      assert.equal(countOf(results, "fulfilled"), 1);
      for (const result of results)
        if (result.status === "rejected") assert.equal(result.reason.code, "SLUG_ALREADY_IN_USE");
    }));

  test("readers and writers of two stores never hold a volume together", () =>
    withTwo(async (stores) => {
      for (let round = 0; round < 10; round += 1) {
        const volumeId = await make(stores[0] as Store, `volume-${round}`);
        const outcomes = await Promise.all(
          Array.from({ length: 20 }, async (_, index) => {
            const isReadOnly = index % 3 !== 0;
            const holds = [{ volumeId, isReadOnly }];
            const outcome = await stores[index % 2]?.sandboxes.reserve(sandbox(), holds, {
              ...PLACES,
              perOrganization: 900,
            });
            return { isReadOnly, kind: outcome?.kind };
          }),
        );
        const reserved = outcomes.filter(({ kind }) => kind === "reserved");
        const writers = reserved.filter(({ isReadOnly }) => !isReadOnly);
        assert.ok(reserved.length > 0 && (writers.length === 0 || reserved.length === 1), JSON.stringify(reserved));
      }
    }));

  test("a volume is grown, deleted or attached, and never two of these", () =>
    withTwo(async ([one, two]) => {
      assert.ok(one && two);
      for (let round = 0; round < 20; round += 1) {
        const id = await make(one, `volume-${round}`);
        const [attached, grown, deleted] = await Promise.allSettled([
          one.sandboxes.reserve(sandbox(), [{ volumeId: id, isReadOnly: false }], PLACES),
          two.disks.beginGrow(SAMPLE_OWNER, id, 2e9),
          one.disks.delete(id, 1, 2, event(id)),
        ]);
        const isAttached = attached?.status === "fulfilled" && attached.value.kind === "reserved";
        const found: Disk | null = await one.disks.get(id);
        if (isAttached) assert.ok(found?.state === "ready" && deleted?.status === "rejected");
        // A growth that came first is no hold, but none begins on an attached volume.
        if (isAttached && grown?.status === "fulfilled") assert.equal(found?.growToBytes, 2e9);
      }
    }));

  test("the limits hold when two stores reserve at once", () =>
    withTwo(async (stores) => {
      const limits = { ...PLACES, perOrganization: 7 };
      const work = Array.from({ length: 40 }, (_, index) =>
        stores[index % 2]?.sandboxes.reserve(sandbox(), [], limits),
      );
      const kinds = (await Promise.all(work)).map((outcome) => outcome?.kind);
      assert.equal(kinds.filter((kind) => kind === "reserved").length, 7);
      assert.equal(kinds.filter((kind) => kind === "limit").length, 33);
    }));

  test("a node that is just being reserved on is passed over where another will do, and waited for where none will", async () => {
    const url = await server.createDatabase();
    const options = parseConnectionUrl(url);
    await (await open(url)).close();
    await using ownership = await Ownership.take(options);
    await using database = new Database(options, await ownership.claim(INSTALLATION), unexpected);
    const { nodes, sandboxes } = storesOf(database);
    await nodes.begin(sampleNode({ id: "nod_other" }), 60_000);
    // The other one has more already, so it comes second.
    await nodes.setDraining(SAMPLE_OWNER.nodeId, true, event("drain"));
    await sandboxes.reserve(sandbox(), [], PLACES);
    await nodes.setDraining(SAMPLE_OWNER.nodeId, false, event("undrain"));
    const { promise: locked, resolve: markLocked } = Promise.withResolvers<void>();
    const { promise: gate, resolve: letGo } = Promise.withResolvers<void>();
    const reserving = database.transaction(async (queries) => {
      await queries.run("SELECT 1 FROM nodes WHERE id = $1 FOR NO KEY UPDATE", SAMPLE_OWNER.nodeId);
      markLocked();
      await gate;
    });
    await locked;
    const passing = await sandboxes.reserve(sandbox(), [], PLACES);
    assert.deepEqual(passing, { kind: "reserved", owner: { nodeId: "nod_other", generation: 1 } });
    await nodes.setDraining("nod_other", true, event("drain"));
    let isWaiting = true;
    const waiting = sandboxes.reserve(sandbox(), [], PLACES).finally(() => {
      isWaiting = false;
    });
    const blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    for (
      const untilMs = Date.now() + 20_000;
      (await server.query(blocked, new URL(url).pathname.slice(1))).length === 0;
    )
      assert.ok(Date.now() < untilMs, "nobody waits for the node");
    assert.ok(isWaiting);
    letGo();
    await reserving;
    assert.deepEqual(await waiting, { kind: "reserved", owner: SAMPLE_OWNER });
  });

  test("of requests with one idempotency key at once one makes the object, and the others find it", () =>
    withTwo(async (stores) => {
      const key = { key: "k", requestHash: Buffer.from("x") };
      const results = await Promise.all(
        Array.from({ length: 30 }, (_, index) => stores[index % 2]?.disks.reserve(disk("same"), key)),
      );
      const found = results.map((result) => result?.existingId).filter((id) => id != null);
      assert.deepEqual([found.length, new Set(found).size], [29, 1]);
    }));

  test("transactions that block each other are tried again", () =>
    withTwo(async ([one, two]) => {
      assert.ok(one && two);
      const ids = [await make(one, "a-1"), await make(one, "a-2"), await make(one, "a-3")];
      // Different orders of the same volumes; the store puts them into one.
      const work = Array.from({ length: 30 }, (_, index) => {
        const order = index % 2 === 0 ? ids : ids.toReversed();
        const holds = order.map((volumeId) => ({ volumeId, isReadOnly: true }));
        return (index % 2 === 0 ? one : two).sandboxes.reserve(sandbox(), holds, PLACES);
      });
      assert.ok((await Promise.all(work)).every(({ kind }) => kind === "reserved"));
    }));

  test("what is answered is on stable storage, whatever the database server's default is", async () => {
    const url = await server.createDatabase();
    const options = parseConnectionUrl(url);
    await using ownership = await Ownership.take(options);
    await using database = new Database(options, await ownership.claim(INSTALLATION), unexpected);
    const row = await database.transaction((queries) =>
      queries.get("SELECT current_setting('synchronous_commit') AS setting"),
    );
    assert.equal(row?.setting, "on");
  });

  test("a second server is refused, and told whose the database is", async () => {
    const url = await server.createDatabase();
    const store = await open(url);
    await assert.rejects(
      openPostgresStore(url, INSTALLATION, unexpected),
      /Another server uses the database .*data in \/data/,
    );
    await store.close();
    await assert.rejects(
      openPostgresStore(url, { id: "other", dataDirectory: "/other" }, unexpected),
      /belongs to the data directory \/data of .*, and this is \/other/,
    );
    const again = await openPostgresStore(url, INSTALLATION, unexpected);
    assert.equal((await again.organizations.list()).length, 1);
    await again.close();
  });

  test("an empty database in place of the one with the rows is refused, and left as it is", async () => {
    const url = await server.createDatabase();
    const withRows = { ...INSTALLATION, hasRows: true };
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await assert.rejects(openPostgresStore(url, withRows, unexpected), (error) => {
        assert.ok(error instanceof CaissonError && error.code === "INVALID_CONFIG", String(error));
        assert.match(error.message, /does not have the rows of \/data.*correct the setting "database", or restore/);
        return true;
      });
    }
    await (await openPostgresStore(url, INSTALLATION, unexpected)).close();
    await (await openPostgresStore(url, withRows, unexpected)).close();
  });

  test("a server that stands by is told who leads and where, and leads when that one ends", async () => {
    const url = await server.createDatabase();
    const shared = { ...INSTALLATION, isShared: true };
    const first = await openPostgresStore(url, shared, unexpected);
    const at = (port: number) => ({ host: "10.0.0.1", port });
    const told: unknown[] = [];
    const hasBegun = Promise.withResolvers<void>();
    const hasSeen = Promise.withResolvers<void>();
    const standBy = {
      async onLeader({ address, isShared }: Leader): Promise<void> {
        told.push([address, isShared]);
        (address === null ? hasBegun : hasSeen).resolve();
      },
      onProblem: (error: unknown) => hasSeen.reject(error),
    };
    const second = openPostgresStore(url, shared, { ...unexpected, standBy });
    await hasBegun.promise;
    const address = { api: at(1), previews: at(2), ssh: null };
    await first.leadership?.announce(address);
    assert.equal(await first.leadership?.share("key", "of the first"), "of the first");
    await hasSeen.promise;
    assert.equal((await findLeaderOf(url))?.installationId, shared.id);
    await first.close();
    const store = await second;
    assert.deepEqual(told, [
      [null, true],
      [address, true],
    ]);
    assert.equal(store.leadership?.term, (first.leadership?.term ?? 0) + 1);
    assert.equal(await store.leadership?.share("key", "of the second"), "of the first");
    assert.equal((await findLeaderOf(url))?.address, null, "nobody is sent to the one before");
    await store.close();
  });

  test("a server stands by for none that is not shared, and an error of what it does meanwhile ends it", async () => {
    const url = await server.createDatabase();
    const problem = new CaissonError("INVALID_CONFIG", "cannot listen");
    const standBy = { onLeader: () => Promise.reject(problem), onProblem: assert.fail };
    const own = await openPostgresStore(url, INSTALLATION, unexpected);
    assert.equal(own.leadership?.term, 1);
    const refused = openPostgresStore(url, INSTALLATION, { ...unexpected, standBy });
    await assert.rejects(refused, { code: "INVALID_CONFIG", message: /none can stand by for it.*--role control/ });
    await own.close();
    const shared = { ...INSTALLATION, isShared: true };
    const leads = await openPostgresStore(url, shared, unexpected);
    await assert.rejects(openPostgresStore(url, shared, { ...unexpected, standBy }), problem);
    await leads.close();
  });

  test("a server that leads and does not say any more that it is there is ended, and what it was in the middle of is rolled back", async (t) => {
    const url = await server.createDatabase();
    const options = parseConnectionUrl(url);
    const shared = { ...INSTALLATION, isShared: true };
    await using first = await Ownership.take(options);
    const generation = await first.claim(shared);
    const told: string[] = [];
    await using database = new Database(options, generation, {
      ...unexpected,
      onDisplaced: ({ message }) => told.push(message),
    });
    const entered = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const late = database.transaction(async (queries) => {
      await queries.run("INSERT INTO organizations (id, slug, created_at_ms) VALUES ('org_b', 'b', 1)");
      entered.resolve();
      await gate.promise;
      await queries.run("INSERT INTO organizations (id, slug, created_at_ms) VALUES ('org_c', 'c', 1)");
    });
    const failed = assert.rejects(late);
    await entered.promise;
    // As of a process that is frozen: its connections stand, and nothing comes over them.
    t.mock.method(first.client, "query", () => Promise.reject(new Error("frozen")));
    const standBy = { onLeader: async () => {}, onProblem: assert.fail };
    const second = openPostgresStore(url, shared, { ...unexpected, standBy });
    await delay(100);
    const client = await connectOnce(options);
    await client.query("UPDATE installation SET lease_until_ms = 0");
    await client.end();
    const store = await second;
    gate.resolve();
    await failed;
    assert.deepEqual(await store.organizations.list(), []);
    await assert.rejects(
      storesOf(database)
        .organizations.list()
        .then(() => prepare(storesOf(database))),
      /taken the database/,
    );
    assert.ok(told.length > 0);
    await store.close();
  });

  test("a server that is migrating, or is just taking over, is not taken for the one before, which is silent", async () => {
    const url = await server.createDatabase();
    const options = parseConnectionUrl(url);
    const shared = { ...INSTALLATION, isShared: true };
    await (await openPostgresStore(url, shared, unexpected)).close();
    await server.query("UPDATE installation SET lease_until_ms = 1", new URL(url).pathname.slice(1));
    const takes = await Ownership.take(options);
    const isLooking = Promise.withResolvers<void>();
    const standBy = { onLeader: async () => isLooking.resolve(), onProblem: assert.fail };
    const second = openPostgresStore(url, shared, { ...unexpected, standBy });
    await isLooking.promise;
    // Longer than the one that leads may be silent.
    await takes.client.query("SELECT pg_sleep(7)");
    await delay(1_000);
    const generation = await takes.claim(shared);
    await takes[Symbol.asyncDispose]();
    const store = await second;
    assert.equal(store.leadership?.term, generation + 1);
    await store.close();
  });

  test("a shared server does not take the place of one that has a node of its own, but elsewhere", async () => {
    const url = await server.createDatabase();
    const here = { ...INSTALLATION, isShared: true };
    const elsewhere = { ...here, dataDirectory: "/other" };
    await (await openPostgresStore(url, INSTALLATION, unexpected)).close();
    await assert.rejects(openPostgresStore(url, elsewhere, unexpected), {
      code: "INVALID_CONFIG",
      message: /data in \/data\) used the database last, and has a node of its own.*--role control/,
    });
    await (await openPostgresStore(url, here, unexpected)).close();
    await (await openPostgresStore(url, elsewhere, unexpected)).close();
  });

  test("a server that was replaced is told when it renews its lease, and when it has its connection again", async () => {
    const url = await server.createDatabase();
    const name = new URL(url).pathname.slice(1);
    for (const isCut of [false, true]) {
      await using ownership = await Ownership.take(parseConnectionUrl(url));
      const told = Promise.withResolvers<Error>();
      const generation = await ownership.claim(INSTALLATION, told.resolve);
      await server.query(`UPDATE installation SET generation = ${generation + 1}`, name);
      if (isCut)
        await server.query(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
          name,
        );
      assert.match((await told.promise).message, /Another server has taken the database/);
    }
  });

  test("a server that lost the database to another can write nothing more, and is told", async () => {
    const url = await server.createDatabase();
    const options = parseConnectionUrl(url);
    const told: string[] = [];
    await using first = await Ownership.take(options);
    await using database = new Database(options, await first.claim(INSTALLATION), {
      onDisplaced: ({ message }) => told.push(message),
    });
    const stale = storesOf(database);
    await stale.organizations.create({ id: "org_a", slug: "a", createdAtMs: 1 }, event("org_a"));
    // One transaction is under way when the connection that owns the database is cut, and another server is there first.
    const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const late = database.transaction(async (queries) => {
      await queries.run("INSERT INTO organizations (id, slug, created_at_ms) VALUES ('org_b', 'b', 1)");
      enter();
      await gate;
    });
    await entered;
    await first[Symbol.asyncDispose]();
    await using second = await Ownership.take(options);
    const claimed = second.claim(INSTALLATION);
    await delay(100);
    open();
    await late;
    await using newer = new Database(options, await claimed, unexpected);
    const organizations = await storesOf(newer).organizations.list();
    assert.deepEqual(
      organizations.map(({ slug }) => slug),
      ["a", "b"],
      "the new owner sees all that the old one was told is done",
    );
    await assert.rejects(
      stale.organizations.create({ id: "org_c", slug: "c", createdAtMs: 1 }, event("org_c")),
      /taken the database/,
    );
    assert.equal(told.length, 1);
  });

  test("a commit whose answer is lost is found out, and one that was lost itself is made again, each once", async () => {
    const url = await server.createDatabase();
    await using proxy = await CutProxy.start(server.directory);
    const store = await open(url.replace(server.directory, proxy.directory));
    for (const [index, cut] of (["after", "before", "after", "before"] as const).entries()) {
      proxy.cutNext([cut]);
      const token = { id: `tok_${index}`, organizationId: "org_a", name: cut, createdAtMs: 1 };
      await store.organizations.createToken(token, Buffer.alloc(32, index), event(token.id));
      assert.equal((await store.events.list("org_a", token.id, 9)).length, 1, cut);
    }
    assert.equal((await store.organizations.listTokens("org_a")).length, 4);
    await store.close();
  });

  test("a store closes although the database's machine has vanished while it was idle, and holds no connection any more", {
    timeout: 120_000,
  }, async () => {
    const url = await server.createDatabase();
    await using proxy = await CutProxy.start(server.directory);
    const store = await open(url.replace(server.directory, proxy.directory));
    // On several connections.
    await Promise.all(["a", "b", "c"].map((slug) => store.organizations.get(slug)));
    proxy.silence();
    assert.ok((await proxy.countHeld()) > 1);
    // The kernel would wait a quarter of an hour.
    await store.close();
    assert.equal(await proxy.countHeld(), 0);
  });

  test("a store that closes waits for what is under way, and cuts none of it", { timeout: 120_000 }, async (t) => {
    const url = await server.createDatabase();
    const options = parseConnectionUrl(url);
    await (await open(url)).close();
    await using ownership = await Ownership.take(options);
    const database = new Database(options, await ownership.claim(INSTALLATION), unexpected);
    const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
    const { promise: gate, resolve: go } = Promise.withResolvers<void>();
    const late = database.transaction(async (queries) => {
      await queries.run("INSERT INTO organizations (id, slug, created_at_ms) VALUES ('org_late', 'late', 1)");
      enter();
      await gate;
    });
    await entered;
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const closing = database[Symbol.asyncDispose]();
    // Longer than a farewell may take, and shorter than a query.
    t.mock.timers.tick(20_000);
    go();
    await late;
    await closing;
    t.mock.timers.reset();
    const { rows } = await ownership.client.query("SELECT 1 FROM organizations WHERE id = 'org_late'");
    assert.equal(rows.length, 1);
  });

  test("a commit of which nothing can be found out is no refusal, so that it is undone", async () => {
    const url = await server.createDatabase();
    await using proxy = await CutProxy.start(server.directory);
    const store = await open(url.replace(server.directory, proxy.directory));
    proxy.cutNext(["after"], { isClosing: true });
    await assert.rejects(store.disks.reserve(disk("lost")), (error) => {
      assert.ok(error instanceof UnknownOutcomeError && isUnavailable(error) && !isRefusal(error));
      return true;
    });
    proxy.open();
    await assert.rejects(store.disks.reserve(disk("lost")), /already in use/);
    await store.close();
  });

  test("an outage is waited for a little, then told, and over when the database is back", async () => {
    await using own = await PostgresServer.start();
    const url = await own.createDatabase();
    const patient = await openPostgresStore(url, INSTALLATION, { ...unexpected, outageWaitMs: 60_000 });
    await prepare(patient);
    await own.kill();
    const waiting = patient.disks.reserve(disk("patient"));
    await own.start();
    await waiting;
    await patient.close();
    const store = await openPostgresStore(url, INSTALLATION, unexpected);
    await own.stop();
    const refusals = await Promise.allSettled([
      store.disks.reserve(disk("refused")),
      store.organizations.list(),
      store.sandboxes.listLeft(SAMPLE_OWNER),
    ]);
    for (const refusal of refusals) {
      assert.ok(
        refusal.status === "rejected" && isUnavailable(refusal.reason) && isRefusal(refusal.reason),
        String(refusal),
      );
      assert.match(refusal.reason.message, /does not answer as it should .*See that PostgreSQL runs there/);
    }
    await own.start();
    await store.disks.reserve(disk("refused"));
    // The lock is taken again, which keeps a second server away.
    const ownerOf = (): Promise<readonly unknown[]> =>
      own.query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted");
    for (const untilMs = Date.now() + 20_000; (await ownerOf()).length === 0; await delay(50))
      assert.ok(Date.now() < untilMs, "nobody owns the database");
    await assert.rejects(openPostgresStore(url, INSTALLATION, unexpected), /Another server uses the database/);
    await store.close();
  });

  test("what is wrong with a login, a name or the rights is said at once, with what to do, and without the password", async () => {
    await using own = await PostgresServer.start();
    await own.query("CREATE ROLE guest LOGIN PASSWORD 'right'");
    await own.query("CREATE DATABASE locked");
    await own.query("CREATE DATABASE old ENCODING SQL_ASCII TEMPLATE template0");
    await writeFile(join(own.directory, "data/pg_hba.conf"), "local all postgres trust\nlocal all all scram-sha-256\n");
    const loadedAt = async () => (await own.query("SELECT pg_conf_load_time()::text AS at"))[0]?.at;
    const before = await loadedAt();
    await own.query("SELECT pg_reload_conf()");
    // The database server reads it when it gets to that.
    while ((await loadedAt()) === before) await delay(20);
    const refused = async (url: string, pattern: RegExp) =>
      assert.rejects(openPostgresStore(url, INSTALLATION, unexpected), (error) => {
        assert.ok(error instanceof CaissonError && error.code === "INVALID_CONFIG", String(error));
        assert.match(error.message, pattern);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      });
    await refused(`${own.url("locked", "guest")}&password=secret`, /refuses the login .*Correct the user and password/);
    await refused(own.url("absent"), /is not there .*Create it with createdb/);
    await refused(own.url("old"), /encoding SQL_ASCII: create it again/);
    await refused(
      `${own.url("locked", "guest")}&password=right`,
      /may not create what Caisson needs .*owner of the database/,
    );
  });

  test("a server that is too old, one without an extension, and a newer schema are refused", async () => {
    const answering = (rows: readonly object[]) => ({ query: async () => ({ rows }) }) as unknown as pg.Client;
    await assert.rejects(
      requireUsableServer(answering([{ version: "14.9", number: 140_009, encoding: "UTF8" }]), "db"),
      /PostgreSQL 14\.9: Caisson needs 15 or later/,
    );
    await assert.rejects(migrate(answering([]), "db"), /does not have the extension pg_trgm.*postgresql-contrib/);
    const url = await server.createDatabase();
    await (await open(url)).close();
    const name = new URL(url).pathname.slice(1);
    await server.query("INSERT INTO schema_version VALUES (999)", name);
    await assert.rejects(openPostgresStore(url, INSTALLATION, unexpected), /schema version 999.*use the newer program/);
  });

  test("what a program from before nodes stored belongs to the node of its data directory, whose first run settles it", async () => {
    const url = await server.createDatabase();
    const name = new URL(url).pathname.slice(1);
    for (const extension of ["pg_trgm", "btree_gist"]) await server.query(`CREATE EXTENSION ${extension}`, name);
    await server.query(
      "CREATE TABLE schema_version (version int NOT NULL); INSERT INTO schema_version VALUES (2)",
      name,
    );
    for (const file of ["0001-initial.sql", "0002-ssh-keys.sql"])
      await server.query(await readFile(join(import.meta.dirname, "migrations", file), "utf8"), name);
    const rows = OLDER_ROWS.replaceAll("LABEL_WORDS", "label_words,").replaceAll("NO_WORDS", "'{}',");
    await server.query(rows, name);
    const store = await openPostgresStore(url, INSTALLATION, unexpected);
    await assertOlderRowsAreSettled(store);
    await store.close();
    const fresh = await openPostgresStore(await server.createDatabase(), INSTALLATION, unexpected);
    assert.deepEqual(await fresh.nodes.list(), []);
    await fresh.close();
  });

  test("texts with a zero character are found nowhere, and not stored", async () => {
    const store = await open();
    assert.equal(await store.disks.find("org_a", "volume", "a\0b"), null);
    const token = { id: "tok_1", organizationId: "org_a", name: "a\0b", createdAtMs: 1 };
    await assert.rejects(store.organizations.createToken(token, Buffer.alloc(32), event("tok_1")), /zero character/);
    await store.close();
  });

  test("a commit that fails leaves neither the change nor its line of the trail", async () => {
    let failuresLeft = 0;
    const faultPoint = (tag: string): void => {
      if (tag === "database.commit" && failuresLeft-- > 0) throw new Error("the disk is full");
    };
    const store = await openPostgresStore(await server.createDatabase(), INSTALLATION, { ...unexpected, faultPoint });
    failuresLeft = 1;
    await assert.rejects(
      store.organizations.create({ id: "org_a", slug: "a", createdAtMs: 1 }, event("org_a")),
      /disk is full/,
    );
    assert.deepEqual([await store.organizations.list(), await store.events.list("org_a", null, 9)], [[], []]);
    await store.organizations.create({ id: "org_a", slug: "a", createdAtMs: 1 }, event("org_a"));
    await store.close();
  });
});
