import { join } from "node:path";
import { type FileLock, lockFile } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

/** One process at a time: the lock goes with the process that has it, so waiting for a server that just died is enough. */
export async function lockPool(directory: string, timeoutMs: number): Promise<FileLock> {
  const path = join(directory, "lock");
  try {
    return await lockFile(path, { signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    if (!(error instanceof Error) || (error.name !== "TimeoutError" && error.name !== "AbortError")) throw error;
    const message = `Cannot open the pool ${directory}: another server has it open (lock ${path}). Stop that server or choose another directory`;
    throw new CaissonError("INTERNAL_ERROR", message, { cause: error });
  }
}
