import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { SAMPLE_OWNER } from "../../testing/index.ts";
import { openSqliteStore, type Store } from "../index.ts";

/** Those that grow with what an installation has and has had. */
const LARGE = /^SCAN (disks|events|sandboxes|holds|idempotency_keys)\b/;

const page = { organizationId: "org_a", kind: "volume", isDeleted: false, limit: 31 } as const;

/** What requests and starts read. */
const READS: Readonly<Record<string, (store: Store) => Promise<unknown>>> = {
  "a disk by its slug": ({ disks }) => disks.find("org_a", "volume", "cache"),
  "a page of disks": ({ disks }) => disks.list(page),
  "a page in the middle": ({ disks }) => disks.list({ ...page, beforeSequence: 9 }),
  "disks with a label": ({ disks }) => disks.list({ ...page, labels: { a: "b" } }),
  "disks by a term": ({ disks }) => disks.list({ ...page, search: "cache" }),
  "deleted disks": ({ disks }) => disks.list({ ...page, isDeleted: true }),
  "what comes of a disk": ({ disks }) => disks.descendants("org_a", "vol_a", 9),
  "what a start has to settle": ({ disks }) => disks.listUnsettled(SAMPLE_OWNER),
  "the trail of an organization": ({ events }) => events.list("org_a", null, 9),
  "the trail of an object": ({ events }) => events.list("org_a", "vol_a", 9),
  "old lines of the trail": ({ events }) => events.expire(0),
  "a page of sandboxes": ({ sandboxes }) => sandboxes.list("org_a", 9),
  "sandboxes that a run has left": ({ sandboxes }) => sandboxes.listLeft(SAMPLE_OWNER),
  "sandboxes of a run": ({ sandboxes }) => sandboxes.listRunning(SAMPLE_OWNER),
  "who writes to volumes": ({ sandboxes }) => sandboxes.writers(["vol_a"]),
  "old sandboxes": ({ sandboxes }) => sandboxes.expire(0),
};

test("no read of a request or a start goes through a whole table, SQLite", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-plans-"));
  const path = join(directory, "caisson.db");
  const asked: string[] = [];
  const { prepare } = DatabaseSync.prototype;
  t.mock.method(DatabaseSync.prototype, "prepare", function (this: DatabaseSync, sql: string) {
    asked.push(sql);
    return prepare.call(this, sql);
  });
  const store = openSqliteStore(path);
  t.after(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });
  using database = new DatabaseSync(path, { readOnly: true });
  const scansOf = (sql: string): readonly string[] =>
    prepare
      .call(database, `EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map(({ detail }) => String(detail))
      .filter((detail) => LARGE.test(detail));
  assert.deepEqual(scansOf("SELECT * FROM events WHERE verb = ? ORDER BY sequence DESC"), ["SCAN events"]);
  const before = asked.length;
  for (const [name, read] of Object.entries(READS)) {
    // Prepared once, those that two reads share are looked at with the first of them.
    const seenCount = asked.length;
    await read(store);
    for (const sql of asked.slice(seenCount)) assert.deepEqual(scansOf(sql), [], `${name}: ${sql}`);
  }
  assert.ok(asked.length - before > 10, `${asked.length - before} statements were looked at`);
});
