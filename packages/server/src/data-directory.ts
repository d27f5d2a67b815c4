import { join } from "node:path";
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
