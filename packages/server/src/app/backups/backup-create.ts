import { open, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describeBackup } from "@caisson/database";
import { hasErrorCode, readSpace } from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import type { SnapshotStore, StoredBackup } from "@caisson/snapshot-store";
import manifest from "../../../package.json" with { type: "json" };
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { readBackupFiles } from "./backup-files.ts";
import { requireSnapshotStore } from "./backup-store.ts";

/** What is read of the copy at once. */
const PIECE_BYTES = 2 ** 20;

/**
 * Makes a backup now, because somebody asks for it. It resolves when all of it is in the store and was found there again. Throws `FORBIDDEN`, `NOT_SUPPORTED` without a store, and
 * `SNAPSHOT_STORE_UNAVAILABLE`; `STORAGE_FULL` when the database's disk has no room for a copy of it.
 */
export async function createBackup(app: AppContext, actor: Actor, signal: AbortSignal): Promise<StoredBackup> {
  requireAdmin(actor, "make backups");
  const backup = await backUp(app, requireSnapshotStore(app), { isAutomatic: false }, signal);
  const subject = { id: backup.id, organizationId: actor.organization.id };
  const { sizeBytes, storedBytes, sentBytes } = backup;
  await app.store.events.record(auditEvent(actor, "backup-create", subject, { sizeBytes, storedBytes, sentBytes }));
  return backup;
}

/**
 * Makes a backup. First comes a copy of the rows beside the database, as of one moment; then its chunks, and the manifest last, without which there is no backup. Whatever cuts it off leaves the copy, which the next try
 * replaces, and chunks that no backup has, which the sweep deletes. Of several at once each waits for its turn. It remembers how it went.
 */
export async function backUp(
  app: AppContext,
  snapshotStore: SnapshotStore,
  { isAutomatic }: { readonly isAutomatic: boolean },
  signal: AbortSignal,
): Promise<StoredBackup> {
  const { backups, config, store } = app;
  const { copyPath, dataDirectory } = backups;
  return backups.turns.run("backup", async () => {
    try {
      await using undo = new AsyncDisposableStack();
      undo.defer(() => rm(copyPath, { force: true }));
      const copy = async () => {
        for (const path of [copyPath, `${copyPath}-journal`, `${copyPath}-wal`, `${copyPath}-shm`])
          await rm(path, { force: true });
        await requireRoom(dirname(copyPath));
        await store.backup(copyPath);
        const file = undo.use(await open(copyPath, "r"));
        const { size } = await file.stat();
        const files = await readBackupFiles(dataDirectory, config.configPath);
        const content = { version: manifest.version, ...describeBackup(copyPath), files };
        return { image: { sizeBytes: size, pieces: () => piecesOf(file) }, content };
      };
      const made = await snapshotStore.backups.create(copy, { isAutomatic, now: Date.now }, signal);
      backups.succeed(made.atMs);
      app.logger.info({ ...made }, "a backup is in the snapshot store");
      return made;
    } catch (error) {
      signal.throwIfAborted();
      const message = error instanceof CaissonError ? error.message : "It failed: the server's log says why";
      backups.fail(message, { isAutomatic });
      throw error;
    }
  });
}

/** Throws `STORAGE_FULL` unless the disk has twice the room of the database in `directory`: its copy must not keep the rows from growing. Rows of a PostgreSQL database are elsewhere, and what the copy takes is not known before. */
async function requireRoom(directory: string): Promise<void> {
  const sizes = ["caisson.db", "caisson.db-wal"].map((name) => sizeOf(join(directory, name)));
  const neededBytes = 2 * (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
  const { availableBytes } = await readSpace(directory);
  if (availableBytes >= neededBytes) return;
  throw new CaissonError(
    "STORAGE_FULL",
    `Cannot make a backup: its copy of the rows needs ${formatSize(neededBytes)} of room beside the database in ${directory}, and ${formatSize(availableBytes)} are free. Free space on that disk`,
  );
}

/** Of a file; absent is none. */
async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    (error: unknown) => {
      if (hasErrorCode(error, "ENOENT")) return 0;
      throw error;
    },
  );
}

async function* piecesOf(
  file: Awaited<ReturnType<typeof open>>,
): AsyncGenerator<{ readonly offset: number; readonly bytes: Uint8Array }, void> {
  for (let offset = 0; ; ) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(PIECE_BYTES), 0, PIECE_BYTES, offset);
    if (bytesRead === 0) return;
    yield { offset, bytes: buffer.subarray(0, bytesRead) };
    offset += bytesRead;
  }
}
