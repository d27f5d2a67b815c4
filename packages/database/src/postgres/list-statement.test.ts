import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import pg from "pg";
import { SAMPLE_OWNER } from "../../testing/index.ts";
import { PostgresServer } from "../../testing/postgres-server.ts";
import type { DiskQuery } from "../store.ts";
import { listStatement, SAMPLE_SQL } from "./list-statement.ts";
import { openPostgresStore } from "./postgres-store.ts";

const COUNT = 12_000;
/** Of the newest disks, and a few pages of the rest: far from all of them. */
const FEW = 6_000;
const NAME = "plans";

interface Plan {
  readonly "Node Type": string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly Plan[];
}

/** Rows that the nodes of a plan without others below them have looked at. */
function rowsRead(plan: Plan): number {
  const parts = plan.Plans ?? [];
  const own = (plan["Actual Rows"] + (plan["Rows Removed by Filter"] ?? 0)) * plan["Actual Loops"];
  const isScan = /(?<!CTE |Subquery )Scan$/.test(plan["Node Type"]);
  return (isScan ? own : 0) + parts.reduce((sum, part) => sum + rowsRead(part), 0);
}

suite("the plan of a list among many disks, PostgreSQL", { timeout: 300_000 }, () => {
  let server: PostgresServer;
  let client: pg.Client;
  before(async () => {
    server = await PostgresServer.start();
    await server.query(`CREATE DATABASE ${NAME}`);
    const store = await openPostgresStore(
      server.url(NAME),
      { id: NAME, dataDirectory: "/plans" },
      {
        onDisplaced(error) {
          throw error;
        },
      },
    );
    await store.close();
    // Every third has one label, the ten oldest have another one, and none a third.
    const word = (key: string) => `ARRAY['["${key}","1"]']`;
    for (const sql of [
      "INSERT INTO organizations VALUES ('org', 'org', 0)",
      `INSERT INTO disks (node_id, node_generation, kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, labels, label_words, created_at_ms)
       SELECT '${SAMPLE_OWNER.nodeId}', 1, 'volume', 'vol_' || n, 'org', 'cache-' || n, 'ord', 'ready', 1, false, '{}',
         CASE WHEN n <= 10 THEN ${word("old")} WHEN n % 3 = 0 THEN ${word("often")} ELSE '{}' END, n FROM generate_series(1, ${COUNT}) AS n`,
      "INSERT INTO disk_search SELECT (disk_search_row(disks)).* FROM disks",
      "VACUUM ANALYZE",
    ])
      await server.query(sql, NAME);
    client = new pg.Client({ host: server.directory, user: "postgres", database: NAME });
    await client.connect();
  });
  after(async () => {
    await client?.end();
    await server?.[Symbol.asyncDispose]();
  });

  const query = (values: Partial<DiskQuery>): DiskQuery => ({
    organizationId: "org",
    kind: "volume",
    isDeleted: false,
    limit: 31,
    ...values,
  });
  const run = async (values: Partial<DiskQuery>) => {
    const slugs = (await client.query<{ slugs: string[] }>(SAMPLE_SQL)).rows[0]?.slugs ?? [];
    assert.ok(slugs.length >= 100);
    const [sql, ...parameters] = listStatement(query(values), slugs);
    const { rows } = await client.query(sql, parameters);
    const explained = await client.query(`EXPLAIN (ANALYZE, FORMAT JSON) ${sql}`, parameters);
    const plans = explained.rows.flatMap((row) => row["QUERY PLAN"] as { readonly Plan: Plan }[]);
    return {
      ids: rows.map(({ id }) => String(id)),
      read: plans.reduce((sum, { Plan: plan }) => sum + rowsRead(plan), 0),
    };
  };

  test("of a label that none, few or many have reads few of them, wherever they are", async () => {
    // A page of one is what the planner hopes most to find soon.
    const none = await run({ labels: { none: "1" }, limit: 1 });
    assert.deepEqual(none.ids, []);
    assert.ok(none.read < FEW, `${none.read} rows were read for a label that none has`);
    const old = await run({ labels: { old: "1" }, limit: 1 });
    assert.deepEqual(old.ids, ["vol_10"]);
    const all = await run({ labels: { old: "1" } });
    assert.deepEqual(
      all.ids,
      Array.from({ length: 10 }, (_, index) => `vol_${10 - index}`),
    );
    assert.ok(old.read < FEW, `${old.read} rows were read for a label of the oldest`);
    const often = await run({ labels: { often: "1" } });
    assert.deepEqual([often.ids.length, often.ids[0], often.ids[30]], [31, `vol_${COUNT}`, `vol_${COUNT - 90}`]);
    assert.ok(often.read < FEW, `${often.read} rows were read for a label that many have`);
  });

  test("of a term that none, one, few or many have reads few of them, wherever they are", async () => {
    const found = async (search: string, limit = 31): Promise<readonly string[]> => {
      const { ids, read } = await run({ search, limit });
      assert.ok(read < FEW, `${read} rows were read for ${search}`);
      return ids;
    };
    assert.deepEqual(await found("zebra"), []);
    // Each part of two letters and of three is in many, but for those across the hyphen.
    const across = await run({ search: "cache-cache" });
    assert.deepEqual([across.ids, across.read], [[], 0]);
    const one = await run({ search: `cache-${COUNT - 1}` });
    assert.deepEqual(one.ids, [`vol_${COUNT - 1}`]);
    assert.ok(one.read < 100, `${one.read} rows were read for one`);
    assert.deepEqual(await found("cache-17", 3), ["vol_1799", "vol_1798", "vol_1797"]);
    assert.deepEqual(await found("cache", 2), [`vol_${COUNT}`, `vol_${COUNT - 1}`]);
    assert.deepEqual(await found("77", 2), ["vol_11977", "vol_11877"]);
    const { ids } = await run({ search: "cache-17", limit: 3, beforeSequence: 1798 });
    assert.deepEqual(ids, ["vol_1797", "vol_1796", "vol_1795"]);
  });

  test("of a label goes on where the page before it ended, and fits the term too", async () => {
    const page = await run({ labels: { often: "1" }, beforeSequence: 100, limit: 5 });
    assert.deepEqual(page.ids, ["vol_99", "vol_96", "vol_93", "vol_90", "vol_87"]);
    const last = await run({ labels: { often: "1" }, beforeSequence: 19, limit: 5 });
    assert.deepEqual(last.ids, ["vol_18", "vol_15", "vol_12"]);
    for (const [search, id] of [
      ["cache-2997", "vol_2997"],
      ["9", "vol_11997"],
    ] as const)
      assert.deepEqual((await run({ labels: { often: "1" }, search, limit: 1 })).ids, [id], search);
    assert.deepEqual((await run({ labels: { often: "1", old: "1" } })).ids, []);
  });
});
