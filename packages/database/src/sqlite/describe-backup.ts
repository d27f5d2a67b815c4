import { DatabaseSync } from "node:sqlite";
import { TABLES } from "../postgres/copy/tables.ts";

/** What a file that `Store.backup` wrote has. */
export interface BackupDescription {
  readonly schemaVersion: number;
  /** Rows by table. */
  readonly rows: Readonly<Record<string, number>>;
  /** The snapshots that are replicated, whatever else becomes of them. */
  readonly snapshots: readonly { readonly organizationId: string; readonly id: string }[];
}

/** Reads a file that `Store.backup` wrote, and changes nothing in it. */
export function describeBackup(path: string): BackupDescription {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    // One of an older version has not every table.
    const tables = new Set(
      database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .all()
        .map((row) => row.name),
    );
    const count = (table: string) => Number(database.prepare(`SELECT count(*) AS count FROM ${table}`).get()?.count);
    return {
      schemaVersion: Number(database.prepare("PRAGMA user_version").get()?.user_version),
      rows: Object.fromEntries(TABLES.filter(({ name }) => tables.has(name)).map(({ name }) => [name, count(name)])),
      snapshots: database
        .prepare("SELECT organization_id, id FROM disks WHERE replication_state = 'replicated' ORDER BY sequence")
        .all()
        .map(({ organization_id, id }) => ({ organizationId: String(organization_id), id: String(id) })),
    };
  } finally {
    database.close();
  }
}
