import { backup, DatabaseSync } from "node:sqlite";

/** In one step, so that what is written meanwhile does not begin it again. */
const ALL_PAGES = 2 ** 31 - 1;

/**
 * Copies an SQLite database that may be written to meanwhile, as of one moment, to a new file beside it, by SQLite's own online backup on a thread of its own. Pages keep their places, so that most of the copy is what an
 * earlier one was. The copy is one file: it has no log of its own.
 */
export async function backupSqlite(path: string, targetPath: string): Promise<void> {
  const source = new DatabaseSync(path, { readOnly: true });
  try {
    await backup(source, targetPath, { rate: ALL_PAGES });
  } finally {
    source.close();
  }
  endLog(targetPath);
}

/** Leaves a database that nobody has open without a log beside it. */
export function endLog(path: string): void {
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA journal_mode = DELETE");
  } finally {
    database.close();
  }
}
