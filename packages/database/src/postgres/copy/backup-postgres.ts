import type { SQLInputValue } from "node:sqlite";
import type { Row } from "../../records.ts";
import { endLog } from "../../sqlite/backup.ts";
import { Connection } from "../../sqlite/connection.ts";
import type { Database, Queries } from "../database.ts";
import { NUMBERED, TABLES, type Table } from "./tables.ts";

/** Rows that are read and written at once. */
const BATCH = 500;

/** Copies every row of the database, as of one moment, to a new SQLite file, which `copyToPostgres` brings back. */
export async function backupPostgres(database: Database, targetPath: string): Promise<void> {
  {
    using target = new Connection(targetPath);
    await database.readSnapshot(async (queries) => {
      for (const table of TABLES) await copyTable(queries, target, table);
      for (const name of NUMBERED) await copyNumber(queries, target, name);
    });
    // What is not a copy of rows: the words to search by. The sums follow the rows by themselves.
    target.transaction(() =>
      target.run(
        "INSERT INTO disk_search (rowid, owner, slug, short, labels) SELECT sequence, owner, slug, short, labels FROM disk_search_documents",
      ),
    );
  }
  endLog(targetPath);
}

async function copyTable(queries: Queries, target: Connection, { name, columns, key }: Table): Promise<void> {
  const order = key.join(", ");
  const insert = `INSERT INTO ${name} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`;
  const places = key.map((_, index) => `$${index + 1}`).join(", ");
  let after: Row | null = null;
  do {
    const condition = after === null ? "" : `WHERE (${order}) > (${places})`;
    const values = after === null ? [] : key.map((column) => after?.[column] as string | number);
    const sql = `SELECT ${columns.join(", ")} FROM ${name} ${condition} ORDER BY ${order} LIMIT ${BATCH}`;
    const rows: readonly Row[] = await queries.all(sql, ...values);
    // The file is nobody's until it is whole: nothing of it need be on stable storage.
    target.unsyncedTransaction(() => {
      for (const row of rows) target.run(insert, ...columns.map((column) => toSqlite(row[column])));
    }, "database-backup");
    after = rows.at(-1) ?? null;
  } while (after !== null);
}

/** The number that came last, also where its row is gone. */
async function copyNumber(queries: Queries, target: Connection, name: string): Promise<void> {
  const row = await queries.get(`SELECT pg_get_serial_sequence('${name}', 'sequence') AS name`);
  const found = await queries.get(`SELECT last_value, is_called FROM ${String(row?.name)}`);
  if (found?.is_called !== true) return;
  target.transaction(() => {
    target.run("DELETE FROM sqlite_sequence WHERE name = ?", name);
    target.run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", name, Number(found.last_value));
  });
}

function toSqlite(value: unknown): SQLInputValue {
  return typeof value === "boolean" ? Number(value) : (value as SQLInputValue);
}
