import { open, rm } from "node:fs/promises";
import { type BackupDescription, describeBackup } from "@caisson/database";
import { hasErrorCode, step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type BackupManifest, CHUNK_BYTES, type SnapshotStore, StoreDamageError } from "@caisson/snapshot-store";

/** A backup whose rows lie in a file now, each part of it verified. */
export interface FetchedBackup {
  readonly id: string;
  readonly atMs: number;
  readonly manifest: BackupManifest;
  /** Newer ones that are not whole, and why. */
  readonly skipped: readonly { readonly id: string; readonly problem: string }[];
}

/**
 * Brings the rows of a backup to `path`: of the one that is named, or of the newest that is whole. Throws `NOT_FOUND` when there is none, and `SNAPSHOT_STORE_UNAVAILABLE` when the store is away, the key is another one, or no
 * backup is whole. One that a newer program made is not passed over for an older one: that throws `NOT_SUPPORTED`, unless another is named. It writes nothing into the store.
 */
export async function fetchBackup(
  snapshotStore: SnapshotStore,
  wanted: string | null,
  path: string,
  signal: AbortSignal,
): Promise<FetchedBackup> {
  const all = await step("restore.list", () => snapshotStore.backups.list(signal));
  const candidates = all.filter(({ id }) => wanted === null || id === wanted);
  if (candidates.length === 0) throw noBackup(wanted, all[0]?.id ?? null);
  const skipped: { id: string; problem: string }[] = [];
  for (const { id, atMs } of candidates) {
    try {
      const manifest = await step("restore.fetch", () => fetchOne(snapshotStore, id, path, signal));
      return { id, atMs, manifest, skipped };
    } catch (error) {
      if (!(error instanceof StoreDamageError)) throw error;
      skipped.push({ id, problem: error.message });
    }
  }
  const problems = skipped.map(({ problem }) => problem).join("; ");
  throw new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", `No backup in the snapshot store is whole: ${problems}`);
}

async function fetchOne(
  { backups }: SnapshotStore,
  id: string,
  path: string,
  signal: AbortSignal,
): Promise<BackupManifest> {
  const { manifest, chunks } = await backups.open(id, signal);
  await rm(path, { force: true });
  {
    await using file = await open(path, "wx", 0o600);
    await file.truncate(manifest.sizeBytes);
    for await (const { index, bytes } of chunks()) await file.write(bytes, 0, bytes.length, index * CHUNK_BYTES);
    await file.sync();
  }
  const { schemaVersion, rows } = describe(id, path);
  const isSame = Object.entries(manifest.rows).every(([table, count]) => rows[table] === count);
  if (!isSame || schemaVersion !== manifest.schemaVersion)
    throw new StoreDamageError(`Cannot use backup ${id}: its rows are not as many as its manifest says`);
  return manifest;
}

/** What SQLite cannot read of a file whose every chunk was verified was no backup when it was stored. */
function describe(id: string, path: string): BackupDescription {
  try {
    return describeBackup(path);
  } catch (cause) {
    if (!hasErrorCode(cause, "ERR_SQLITE_ERROR")) throw cause;
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new StoreDamageError(`Cannot use backup ${id}: its rows cannot be read (${said})`, { cause });
  }
}

function noBackup(wanted: string | null, newest: string | null): CaissonError {
  if (wanted === null)
    return new CaissonError(
      "NOT_FOUND",
      "There is no backup in the snapshot store. Is --from the URL that the server's settings had, and its disk mounted?",
    );
  const others = newest === null ? "it has none" : `the newest that it has is ${newest}`;
  return new CaissonError("NOT_FOUND", `There is no backup ${JSON.stringify(wanted)} in the snapshot store: ${others}`);
}
