import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openPostgresStore, openSqliteStore, type Store } from "@caisson/database";
import { PostgresServer, SAMPLE_OWNER, sampleNode } from "@caisson/database/testing";
import { median, printTable, quantile, timed, writeResults } from "./support/report.ts";
import { MANY_NODES, MANY_NODES_REGION, storeCalls } from "./support/store-calls.ts";

/**
 * Every call of the store on SQLite and on PostgreSQL, among a million disks of one organization, a million lines of the trail and 100,000 ended
 * sandboxes. Both flush each commit to the disk. Filling takes minutes: `node bench/stores.ts DIRECTORY` keeps what was filled there, and a second run measures only.
 */
const COUNT = Number(process.env.CAISSON_BENCH_ROWS ?? 1_000_000);
const ROUNDS = 21;
const INSTALLATION = { id: "bench", dataDirectory: "/bench" };

/** The values of an owner's columns. */
const OWNER = `'${SAMPLE_OWNER.nodeId}', ${SAMPLE_OWNER.generation}`;

const kept = process.argv[2];
const directory = kept ?? (await mkdtemp(join(tmpdir(), "caisson-bench-")));
try {
  // The user of PostgreSQL passes it.
  await chmod(directory, 0o711);
  const path = join(directory, "caisson.db");
  if (!existsSync(path)) await fillSqlite(path);
  const data = join(directory, "postgresql");
  const isFilled = existsSync(data);
  await mkdir(data, { recursive: true });
  await using server = await PostgresServer.start({
    directory: data,
    settings: ["fsync=on", "shared_buffers=1GB", "max_wal_size=4GB"],
  });
  if (!isFilled) await fillPostgres(server);
  const sqlite = await measure(openSqliteStore(path));
  const postgresql = await measure(await openStore(server));
  const names = Object.keys(sqlite);
  printTable(
    `${COUNT.toLocaleString("en")} rows, median and 95 % of ${ROUNDS}, in ms`,
    ["call", "SQLite", "95 %", "PostgreSQL", "95 %"],
    names.map((name) => [
      name,
      ...[sqlite[name], postgresql[name]].flatMap((found) => [show(found?.median), show(found?.p95)]),
    ]),
  );
  await writeResults("stores", { count: COUNT, rounds: ROUNDS, sqlite, postgresql });
} finally {
  if (kept === undefined) await rm(directory, { recursive: true });
}

interface Figures {
  readonly median: number;
  readonly p95: number;
}

function show(milliseconds: number | undefined): string {
  return milliseconds === undefined ? "" : milliseconds.toFixed(2);
}

async function measure(store: Store): Promise<Readonly<Record<string, Figures>>> {
  const figures: Record<string, Figures> = {};
  const { id: nodeId, generation } = await store.nodes.begin(sampleNode(), 3_600_000);
  for (let index = 0; index < MANY_NODES; index += 1)
    await store.nodes.begin(sampleNode({ id: `nod_many_${index}`, regions: [MANY_NODES_REGION] }), 3_600_000);
  for (const [name, run] of Object.entries(storeCalls(store, COUNT, { nodeId, generation }))) {
    const samples: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const call = await run(round);
      samples.push(await timed(call));
    }
    figures[name] = { median: median(samples), p95: quantile(samples, 0.95) };
  }
  await store.close();
  return figures;
}

function openStore(server: PostgresServer): Promise<Store> {
  return openPostgresStore(server.url("bench"), INSTALLATION, {
    onDisplaced(error) {
      throw error;
    },
  });
}

/** Straight into the tables, as that many creates would have left it. */
async function fillSqlite(path: string): Promise<void> {
  await openSqliteStore(path).close();
  const database = new DatabaseSync(path);
  const numbers = `WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${COUNT})`;
  database.exec(
    "PRAGMA synchronous = OFF; INSERT INTO organizations VALUES ('org', 'org', 0), ('small', 'small', 0); BEGIN",
  );
  database.exec(`
    INSERT INTO disks (node_id, node_generation, kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, labels, usage_measured_at_ms, created_at_ms)
    ${numbers}
    SELECT ${OWNER}, 'volume', 'vol_ord_small', 'small', 'data', 'ord', 'creating', 1000000000, 0, '{}', 1, 0 UNION ALL
    SELECT ${OWNER}, 'volume', 'vol_ord_' || n, 'org', 'build-cache-' || n, 'ord', 'creating', 1000000000, 0,
           CASE WHEN n % 1000 = 7 THEN '{"shard":"7"}' ELSE '{}' END, n, n FROM numbers;
    UPDATE disks SET state = 'ready';
    INSERT INTO events (organization_id, at_ms, actor, verb, object_id, outcome, detail)
    ${numbers} SELECT 'org', n, 'tok_1', 'volume-create', 'vol_ord_' || n, 'ok', '{}' FROM numbers;
    INSERT INTO sandboxes (node_id, node_generation, id, organization_id, region, status, memory_mib, created_at_ms, stopped_at_ms)
    ${numbers} SELECT ${OWNER}, 'sbx_ord_' || n, 'org', 'ord', 'stopped', 1280, n, n FROM numbers WHERE n % 10 = 0;
    COMMIT`);
  database.exec("INSERT INTO disk_search (disk_search) VALUES ('optimize')");
  database.close();
}

async function fillPostgres(server: PostgresServer): Promise<void> {
  await server.query("CREATE DATABASE bench");
  await (await openStore(server)).close();
  const run = (sql: string) => server.query(sql, "bench");
  // An index is made faster than it is added to row by row.
  const indexes = await run(
    "SELECT indexname AS name, indexdef AS definition FROM pg_indexes WHERE tablename = 'disk_search' AND indexdef LIKE '%USING gin%'",
  );
  for (const { name } of indexes) await run(`DROP INDEX ${name}`);
  await run("INSERT INTO organizations VALUES ('org', 'org', 0), ('small', 'small', 0)");
  await run(`
    INSERT INTO disks (node_id, node_generation, kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, labels, label_words, usage_measured_at_ms, created_at_ms)
    SELECT ${OWNER}, 'volume', 'vol_ord_' || n, CASE WHEN n = 0 THEN 'small' ELSE 'org' END, 'build-cache-' || n, 'ord', 'ready', 1000000000, false,
      CASE WHEN n % 1000 = 7 THEN '{"shard":"7"}' ELSE '{}' END::json, CASE WHEN n % 1000 = 7 THEN ARRAY['["shard","7"]'] ELSE '{}' END, n, n
    FROM generate_series(0, ${COUNT}) AS n`);
  await run("INSERT INTO disk_search SELECT (disk_search_row(disks)).* FROM disks WHERE state = 'ready'");
  await run(`
    INSERT INTO events (organization_id, at_ms, actor, verb, object_id, outcome, detail)
    SELECT 'org', n, 'tok_1', 'volume-create', 'vol_ord_' || n, 'ok', '{}' FROM generate_series(1, ${COUNT}) AS n`);
  await run(`
    INSERT INTO sandboxes (node_id, node_generation, id, organization_id, region, status, labels, label_words, memory_mib, created_at_ms, stopped_at_ms)
    SELECT ${OWNER}, 'sbx_ord_' || n, 'org', 'ord', 'stopped', '{}', '{}', 1280, n, n FROM generate_series(10, ${COUNT}, 10) AS n`);
  for (const { definition } of indexes) await run(`SET maintenance_work_mem = '1GB'; ${definition}`);
  await run("VACUUM ANALYZE");
}
