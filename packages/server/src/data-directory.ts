import { chmod, mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type FileLock, lockFile } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

const LOCK_WAIT_MS = 5_000;

/** Keeps a second server away. One that was just killed may still be going, so it is waited for. Throws `INVALID_CONFIG`. */
export async function lockDataDirectory(directory: string): Promise<FileLock> {
  try {
    return await lockFile(join(directory, "server.lock"), { signal: AbortSignal.timeout(LOCK_WAIT_MS) });
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
 */
export async function makeDataDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o711);
  for (let above = dirname(directory); above !== dirname(above); above = dirname(above)) {
    if (((await stat(above)).mode & 0o001) !== 0) continue;
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot keep data in ${directory}: sandboxes could not pass ${above}. Run chmod o+x ${above}, or give another directory with --data`,
    );
  }
}
