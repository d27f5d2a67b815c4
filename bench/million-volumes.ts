import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openSqliteStore } from "@caisson/database";
import { median, printTable, writeResults } from "./support/report.ts";

/** Lists and searches among a million volumes of one organization, on the embedded database. Budget: 10 ms. */
const COUNT = 1_000_000;
const ROUNDS = 21;

const directory = await mkdtemp(join(tmpdir(), "caisson-bench-"));
try {
  const path = join(directory, "caisson.db");
  await openSqliteStore(path).close();
  fill(path);
  const store = openSqliteStore(path);
  const list = (query: object) => () =>
    store.disks.list({ organizationId: "org", kind: "volume", isDeleted: false, limit: 31, ...query });
  const cases: Readonly<Record<string, () => Promise<unknown>>> = {
    "get by slug": () => store.disks.find("org", "volume", "build-cache-500000"),
    "newest page": list({}),
    "page in the middle": list({ beforeSequence: COUNT / 2 }),
    "search, every slug matches": list({ search: "cache" }),
    "search, one slug matches": list({ search: "cache-777777" }),
    "search, none matches": list({ search: "zebra" }),
    "search of two letters, many match": list({ search: "ca" }),
    "search of two letters, none matches": list({ search: "zz" }),
    "search of one letter, none matches": list({ search: "z" }),
    "label, every thousandth has it": list({ labels: { shard: "7" } }),
    "label, none has it": list({ labels: { shard: "8" } }),
    "another organization, search that matches none of its own": list({ organizationId: "small", search: "cache" }),
    "another organization, label that none of its own has": list({ organizationId: "small", labels: { shard: "7" } }),
  };
  const results: Record<string, number> = {};
  for (const [name, run] of Object.entries(cases)) {
    const samples: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const startedMs = performance.now();
      await run();
      samples.push(performance.now() - startedMs);
    }
    results[name] = median(samples);
  }
  await store.close();
  printTable(`${COUNT.toLocaleString("en")} volumes, median of ${ROUNDS}`, ["query", "ms"], Object.entries(results));
  await writeResults("million-volumes", { count: COUNT, mediansMs: results });
} finally {
  await rm(directory, { recursive: true });
}

/** Straight into the table, as a million creates would have left it. */
function fill(path: string): void {
  const database = new DatabaseSync(path);
  database.exec(
    "PRAGMA synchronous = OFF; INSERT INTO organizations VALUES ('org', 'org', 0), ('small', 'small', 0); BEGIN",
  );
  database.exec(`
    INSERT INTO disks (kind, id, organization_id, slug, region, state, capacity_bytes, is_bootable, labels, created_at_ms)
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${COUNT})
    SELECT 'volume', 'vol_ord_small', 'small', 'data', 'ord', 'creating', 1000000000, 0, '{}', 0 UNION ALL
    SELECT 'volume', 'vol_ord_' || n, 'org', 'build-cache-' || n, 'ord', 'creating', 1000000000, 0,
           CASE WHEN n % 1000 = 7 THEN '{"shard":"7"}' ELSE '{}' END, n FROM numbers;
    UPDATE disks SET state = 'ready';
    COMMIT`);
  database.exec("INSERT INTO image_search (image_search) VALUES ('optimize')");
  database.close();
}
