import { chmod, mkdir, readdir, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type FileLock, lockFile } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

const LOCK_WAIT_MS = 5_000;
const LOCK_NAME = "server.lock";
/** What a start makes before it keeps anything. */
const EMPTY_DIRECTORIES = ["database"];

/** Keeps a second server away. One that was just killed may still be going, so it is waited for. Throws `INVALID_CONFIG`. */
export async function lockDataDirectory(directory: string): Promise<FileLock> {
  try {
    return await lockFile(join(directory, LOCK_NAME), { signal: AbortSignal.timeout(LOCK_WAIT_MS) });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new CaissonError("INVALID_CONFIG", `There is no data directory ${directory}: give another with --data`, {
        cause: error,
      });
    throw new CaissonError(
      "INVALID_CONFIG",
      `Another server uses the data directory ${directory}: stop it, or give another with --data`,
      { cause: error },
    );
  }
}

/**
 * Makes the data directory. Sandboxes' own ids pass through it to their mounts, so it and everything above it must be searchable; what is secret in
 * it is closed by itself. Throws `INVALID_CONFIG` for a place that cannot be used.
 *
 * Disposing of the result takes away again what this call has made, unless something is kept in it. The caller holds the lock.
 */
export async function makeDataDirectory(directory: string): Promise<AsyncDisposable> {
  // Node says where it began, or nothing when all was there.
  const first = await mkdir(directory, { recursive: true });
  const made = {
    async [Symbol.asyncDispose]() {
      if (first !== undefined) await removeUnused(directory, first);
    },
  };
  try {
    await chmod(directory, 0o711);
    await requirePassable(directory);
    return made;
  } catch (error) {
    await made[Symbol.asyncDispose]();
    throw error;
  }
}

async function requirePassable(directory: string): Promise<void> {
  for (let above = dirname(directory); above !== dirname(above); above = dirname(above)) {
    if (((await stat(above)).mode & 0o001) !== 0) continue;
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot keep data in ${directory}: sandboxes could not pass ${above}. Run chmod o+x ${above}, or give another directory with --data`,
    );
  }
}

/** Never rejects: why the start failed says more than why a directory stays, which does no harm. */
async function removeUnused(directory: string, first: string): Promise<void> {
  try {
    const names = await readdir(directory);
    if (names.some((name) => name !== LOCK_NAME && !EMPTY_DIRECTORIES.includes(name))) return;
    for (const name of EMPTY_DIRECTORIES.filter((name) => names.includes(name))) await rmdir(join(directory, name));
    await rm(join(directory, LOCK_NAME), { force: true });
    for (let path = directory; ; path = dirname(path)) {
      await rmdir(path);
      if (path === first) return;
    }
  } catch {
    // Something else uses it, or has removed it.
  }
}
