import { join } from "node:path";
import { KeyedLock } from "@caisson/linux";

/** What this server knows of its backups, and the turn of those that make one. */
export class BackupWatch {
  /** One change at a time. */
  readonly turns = new KeyedLock();
  /** Where the copy of the rows lies until it is in the store. */
  readonly copyPath: string;
  readonly dataDirectory: string;
  /** When the newest whole one was made, by the clock of the server that made it; null: none is known yet. */
  lastAtMs: number | null = null;
  /** Why the last try failed, and when; null: it did not. */
  failure: { readonly message: string; readonly atMs: number } | null = null;

  constructor(dataDirectory: string) {
    this.dataDirectory = dataDirectory;
    this.copyPath = join(dataDirectory, "database", "backup.db");
  }
}
