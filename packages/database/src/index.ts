export { keptPlaces } from "./choose-node.ts";
export { type CopyReport, copyToPostgres } from "./postgres/copy/copy-to-postgres.ts";
export type { Leader } from "./postgres/leadership.ts";
export type { Installation } from "./postgres/ownership.ts";
export {
  checkPostgres,
  findLeaderOf,
  migratePostgres,
  openPostgresStore,
  type PostgresCheck,
} from "./postgres/postgres-store.ts";
export type { StandBy } from "./postgres/stand-by.ts";
export { beingTakenOver, diskLost, isLost, nodeInUse, regionUnavailable } from "./refusals.ts";
export { markCopied } from "./sqlite/copied.ts";
export { type BackupDescription, describeBackup } from "./sqlite/describe-backup.ts";
export { type KeptSnapshot, type RestoredDisk, type RestoredRows, settleRestored } from "./sqlite/settle-restored.ts";
export { openSqliteStore } from "./sqlite/sqlite-store.ts";
export type * from "./store.ts";
