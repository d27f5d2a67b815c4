import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type AuditEvent, openSqliteStore } from "@caisson/database";
import { longestBlock } from "./support/longest-block.ts";
import { median, printTable, writeResults } from "./support/report.ts";

/**
 * Changes of rows that are all on stable storage when they are answered: those of the embedded database, beside SQLite's own commits that wait for the disk, in the same directory and run, in turns. The longest time in which nothing else ran, and how long
 * it took in all, for one change and for many at once. Run it with: node bench/commits.ts
 */
const ROUNDS = 25;
const AT_ONCE = [1, 20];

const directory = await mkdtemp(join(tmpdir(), "caisson-bench-"));
const store = openSqliteStore(join(directory, "store.db"));
const plain = new DatabaseSync(join(directory, "plain.db"));
plain.exec(
  "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE organizations (id TEXT PRIMARY KEY, slug TEXT UNIQUE, created_at_ms INTEGER)",
);
const insert = plain.prepare("INSERT INTO organizations VALUES (?, ?, ?)");

const event = (organizationId: string): AuditEvent => ({
  organizationId,
  atMs: Date.now(),
  actor: "server",
  verb: "organization-create",
  objectId: organizationId,
  outcome: "ok",
  detail: {},
});
const ways = {
  "SQLite alone": async (id: string) => {
    insert.run(id, id, Date.now());
  },
  "the store, with an event": (id: string) =>
    store.organizations.create({ id, slug: id, createdAtMs: Date.now() }, event(id)),
} as const;

const measure = (change: (id: string) => Promise<unknown>, atOnce: number) =>
  longestBlock(() => Promise.all(Array.from({ length: atOnce }, () => change(randomUUID()))));

try {
  const medians: { name: string; atOnce: number; blockedMs: number; totalMs: number }[] = [];
  for (const atOnce of AT_ONCE) {
    const samples = new Map<string, { blockedMs: number; totalMs: number }[]>();
    for (let round = 0; round <= ROUNDS; round += 1)
      for (const [name, change] of Object.entries(ways)) {
        const sample = await measure(change, atOnce);
        // The first one makes statements, files and the thread.
        if (round > 0) samples.set(name, [...(samples.get(name) ?? []), sample]);
      }
    for (const [name, all] of samples)
      medians.push({
        name,
        atOnce,
        blockedMs: median(all.map((one) => one.blockedMs)),
        totalMs: median(all.map((one) => one.totalMs)),
      });
  }
  printTable(
    `Changes on stable storage, medians of ${ROUNDS}, ms`,
    ["changes", "longest block", "in all"],
    medians.map(({ name, atOnce, blockedMs, totalMs }) => [`${atOnce} at once, ${name}`, blockedMs, totalMs]),
  );
  await writeResults("commits", { rounds: ROUNDS, medians });
} finally {
  plain.close();
  await store.close();
  await rm(directory, { recursive: true });
}
