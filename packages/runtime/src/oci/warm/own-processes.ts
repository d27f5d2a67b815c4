import { stat } from "node:fs/promises";
import { hasErrorCode, type IdRange } from "@caisson/linux";

/** Those of the processes that are of the sandbox with these ids, as its root's; in its cgroup is the OCI runtime too. One that has ended meanwhile is none. */
export async function ownProcesses({ firstHostId }: IdRange, pids: readonly number[]): Promise<readonly number[]> {
  const own = await Promise.all(pids.map(async (pid) => ((await ownerOf(pid)) === firstHostId ? [pid] : [])));
  return own.flat();
}

async function ownerOf(pid: number): Promise<number | null> {
  try {
    return (await stat(`/proc/${pid}`)).uid;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT", "ESRCH")) return null;
    throw error;
  }
}
