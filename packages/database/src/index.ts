export { keptPlaces } from "./choose-node.ts";
export { type CopyReport, copyToPostgres } from "./postgres/copy/copy-to-postgres.ts";
export type { Installation } from "./postgres/ownership.ts";
export { checkPostgres, migratePostgres, openPostgresStore, type PostgresCheck } from "./postgres/postgres-store.ts";
export { regionUnavailable } from "./refusals.ts";
export { markCopied } from "./sqlite/copied.ts";
export { type BackupDescription, describeBackup } from "./sqlite/describe-backup.ts";
export { openSqliteStore } from "./sqlite/sqlite-store.ts";
export type * from "./store.ts";
