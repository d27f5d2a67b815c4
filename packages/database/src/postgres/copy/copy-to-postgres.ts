import { hostname } from "node:os";
import { CaissonError } from "@caisson/model";
import type pg from "pg";
import type { Row } from "../../records.ts";
import { Connection } from "../../sqlite/connection.ts";
import { parseConnectionUrl } from "../connection-options.ts";
import type { DatabaseOptions } from "../database.ts";
import { classify, explain } from "../failures.ts";
import { type Installation, Ownership } from "../ownership.ts";
import { converted, NUMBERED, TABLES, type Table } from "./tables.ts";

/** Rows that are read, written and compared at once. */
const BATCH = 500;

export interface CopyReport {
  /** Rows by table. */
  readonly rows: Readonly<Record<string, number>>;
  /** An earlier run had copied them; they were only compared. */
  readonly wasCopied: boolean;
}

/**
 * Copies every row of an SQLite file, which no server uses, to an empty PostgreSQL database, in one transaction: reads each row back, compares it, and only then
 * commits, together with whose rows they are. Run again after that, it compares them once more. Throws `INVALID_CONFIG` when the database has
 * rows already that are not these, and leaves it as it was.
 */
export async function copyToPostgres(
  sqlitePath: string,
  url: string,
  installation: Installation,
  settings: Pick<DatabaseOptions, "faultPoint" | "startWaitMs"> = {},
): Promise<CopyReport> {
  const options = parseConnectionUrl(url);
  using source = new Connection(sqlitePath);
  await using ownership = await Ownership.take(options, { waitMs: settings.startWaitMs });
  const { client } = ownership;
  try {
    await client.query("SET idle_in_transaction_session_timeout = 0");
    await client.query("BEGIN");
    const wasCopied = await isCopied(client, installation, options.description);
    if (!wasCopied) {
      for (const table of TABLES) await copyTable(source, client, table);
      await completeTables(source, client);
      await client.query("INSERT INTO installation (id, generation, host, data_directory) VALUES ($1, 0, $2, $3)", [
        installation.id,
        hostname(),
        installation.dataDirectory,
      ]);
    }
    const rows: Record<string, number> = {};
    for (const table of TABLES) rows[table.name] = await compareTable(source, client, table);
    await settings.faultPoint?.("database-copy.commit");
    await client.query("COMMIT");
    await client.query("ANALYZE");
    return { rows, wasCopied };
  } catch (error) {
    throw explain(error instanceof CaissonError ? error : classify(error), options.description);
  }
}

/** Whether these rows are there already. Throws when others are. */
async function isCopied(client: pg.Client, installation: Installation, description: string): Promise<boolean> {
  const { rows } = await client.query<Row>("SELECT id, host, data_directory FROM installation");
  const [found] = rows;
  if (found?.id === installation.id) return true;
  const isEmpty = await client.query<Row>("SELECT NOT EXISTS (SELECT FROM organizations) AS is_empty");
  if (found === undefined && isEmpty.rows[0]?.is_empty === true) return false;
  const whose = found === undefined ? "" : ` of the data directory ${found.data_directory} of ${found.host}`;
  throw new CaissonError(
    "INVALID_CONFIG",
    `The database ${description} is not empty: it has the rows${whose}. Copy to a new database, made with createdb`,
  );
}

async function copyTable(source: Connection, client: pg.Client, table: Table): Promise<void> {
  const columns = [...table.columns, ...Object.keys(table.derived)];
  for (
    let batch = readSource(source, table, null);
    batch.length > 0;
    batch = readSource(source, table, batch.at(-1) ?? null)
  ) {
    const values = batch.flatMap((row) => [
      ...table.columns.map((column) => converted(column, row[column])),
      ...Object.values(table.derived).map((derive) => derive(row)),
    ]);
    const places = batch.map(
      (_, index) => `(${columns.map((_column, offset) => `$${index * columns.length + offset + 1}`).join(", ")})`,
    );
    await client.query(`INSERT INTO ${table.name} (${columns.join(", ")}) VALUES ${places.join(", ")}`, values);
  }
}

/** What is not a copy of rows: the words to search by, and the numbers that come next. */
async function completeTables(source: Connection, client: pg.Client): Promise<void> {
  await client.query("INSERT INTO disk_search SELECT (disk_search_row(disks)).* FROM disks WHERE state = 'ready'");
  for (const name of NUMBERED) {
    const last = source.get("SELECT seq FROM sqlite_sequence WHERE name = ?", name)?.seq;
    if (last !== undefined)
      await client.query("SELECT setval(pg_get_serial_sequence($1, 'sequence'), $2)", [name, Number(last)]);
  }
}

/** Compares each row with its copy, in the order of the key. Returns how many there are. */
async function compareTable(source: Connection, client: pg.Client, table: Table): Promise<number> {
  let count = 0;
  let after: Row | null = null;
  for (;;) {
    const originals = readSource(source, table, after);
    const copies = await readTarget(client, table, after);
    for (const [index, original] of originals.entries()) {
      const copy = copies[index];
      const column = table.columns.find(
        (name) => copy === undefined || !isSame(converted(name, original[name]), copy[name]),
      );
      if (column !== undefined) throw different(table, original);
    }
    const surplus = copies[originals.length];
    if (surplus !== undefined) throw different(table, surplus);
    count += originals.length;
    after = originals.at(-1) ?? null;
    if (after === null) return count;
  }
}

function readSource(source: Connection, { name, columns, key }: Table, after: Row | null): readonly Row[] {
  const order = key.join(", ");
  const condition = after === null ? "" : `WHERE (${order}) > (${key.map(() => "?").join(", ")})`;
  const values = after === null ? [] : key.map((column) => after[column] as string | number);
  return source.all(
    `SELECT ${columns.join(", ")} FROM ${name} ${condition} ORDER BY ${order} LIMIT ${BATCH}`,
    ...values,
  );
}

async function readTarget(
  client: pg.Client,
  { name, columns, key }: Table,
  after: Row | null,
): Promise<readonly Row[]> {
  const order = key.join(", ");
  const condition = after === null ? "" : `WHERE (${order}) > (${key.map((_, index) => `$${index + 1}`).join(", ")})`;
  const values = after === null ? [] : key.map((column) => after[column]);
  const sql = `SELECT ${columns.join(", ")} FROM ${name} ${condition} ORDER BY ${order} LIMIT ${BATCH}`;
  return (await client.query<Row>(sql, values)).rows;
}

function isSame(original: unknown, copy: unknown): boolean {
  if (original instanceof Uint8Array && copy instanceof Uint8Array) return Buffer.compare(original, copy) === 0;
  return original === copy;
}

function different(table: Table, row: Row): CaissonError {
  const key = table.key.map((column) => `${column} ${String(row[column])}`).join(", ");
  return new CaissonError(
    "INVALID_CONFIG",
    `The copy differs from the original in the table ${table.name}, ${key}: nothing was changed. If a server has changed the one or the other since they were copied, copy again to a new database`,
  );
}
