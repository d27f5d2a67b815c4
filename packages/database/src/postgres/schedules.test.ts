import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  SAMPLE_ORGANIZATION,
  SAMPLE_OWNER,
  sampleDisk,
  sampleEvent,
  sampleNode,
  sampleUsage,
} from "../../testing/index.ts";
import { PostgresServer } from "../../testing/postgres-server.ts";
import { parseConnectionUrl } from "./connection-options.ts";
import { Database } from "./database.ts";
import { openPostgresStore, storesOf } from "./postgres-store.ts";

const organizationId = SAMPLE_ORGANIZATION;
const EVERY_MS = 300_000;

/** Stops the next commit of a store until it may go on. */
class Gate {
  #reached = Promise.withResolvers<void>();
  #opened = Promise.withResolvers<void>();
  #isShut = false;

  readonly faultPoint = async (tag: string): Promise<void> => {
    if (!this.#isShut || !tag.endsWith(".commit")) return;
    this.#isShut = false;
    this.#reached.resolve();
    await this.#opened.promise;
  };

  /** Resolves when `work`, of which the promise is returned, stands before its commit. */
  async hold<T>(work: () => Promise<T>): Promise<{ readonly held: Promise<T> }> {
    this.#reached = Promise.withResolvers();
    this.#opened = Promise.withResolvers();
    this.#isShut = true;
    const held = work();
    await Promise.race([this.#reached.promise, held.then(() => assert.fail("it did not stop before its commit"))]);
    return { held };
  }

  open(): void {
    this.#opened.resolve();
  }
}

suite("schedules in PostgreSQL", { timeout: 120_000 }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await PostgresServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  test("of the thinning out of a snapshot and what is made from it, the one that comes while the other commits finds it", async () => {
    const url = await server.createDatabase();
    const gate = new Gate();
    const hooks = {
      onDisplaced(error: Error): void {
        throw error;
      },
    };
    const installation = { id: "test", dataDirectory: "/test" };
    await using made = new AsyncDisposableStack();
    const store = await openPostgresStore(url, installation, { ...hooks, faultPoint: gate.faultPoint });
    made.defer(() => store.close());
    const second = storesOf(made.use(new Database(parseConnectionUrl(url), 1, hooks)));
    made.defer(() => gate.open());
    const waiting = async (): Promise<void> => {
      const locks = "SELECT count(*)::int AS count FROM pg_locks WHERE NOT granted";
      for (const untilMs = Date.now() + 60_000; (await server.query(locks))[0]?.count === 0; await delay(5))
        assert.ok(Date.now() < untilMs, "it does not wait for the other");
    };
    await store.organizations.create(
      { id: organizationId, slug: "a", createdAtMs: 1 },
      sampleEvent(organizationId, "x"),
    );
    await store.nodes.begin(sampleNode(), 60_000);
    const commit = (id: string) =>
      store.disks.commit(id, { ...sampleUsage(), consistency: null }, sampleEvent(id, "create"));
    const volume = sampleDisk({ organizationId, slug: "volume", everyMs: EVERY_MS });
    await store.disks.reserve(volume);
    await commit(volume.id);
    const snapshots = [];
    for (const index of [1, 2, 3]) {
      const values = { kind: "snapshot", consistency: "frozen", createdAtMs: 1000 + 2 * index * EVERY_MS } as const;
      const parent = { kind: "volume", id: volume.id, slug: volume.slug } as const;
      const snapshot = {
        ...sampleDisk({ organizationId, slug: `s-${index}`, parent, ...values }),
        owner: SAMPLE_OWNER,
      };
      assert.equal(await store.disks.reserveScheduled(snapshot, false), true);
      await commit(snapshot.id);
      snapshots.push(snapshot);
    }
    const [kept, thinned] = snapshots;
    assert.ok(kept !== undefined && thinned !== undefined);
    const childOf = ({ id, slug }: typeof kept) =>
      sampleDisk({ organizationId, slug: `of-${slug}`, parent: { kind: "snapshot", id, slug } });
    const thin = (id: string) => sampleEvent(id, "thin");

    const making = await gate.hold(() => store.disks.reserve(childOf(kept)));
    const late = second.disks.thin(kept.id, 9_000_000, thin(kept.id));
    await waiting();
    gate.open();
    assert.deepEqual(await making.held, { existingId: null, owner: SAMPLE_OWNER });
    assert.equal(await late, false);

    const thinning = await gate.hold(() => store.disks.thin(thinned.id, 9_000_000, thin(thinned.id)));
    const refused = assert.rejects(second.disks.reserve(childOf(thinned)), { code: "SNAPSHOT_NOT_FOUND" });
    await waiting();
    gate.open();
    assert.equal(await thinning.held, true);
    await refused;
  });
});
