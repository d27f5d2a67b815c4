import { step } from "@caisson/linux";
import type { AppContext } from "../context.ts";
import type { Disk } from "../records.ts";

/** Who purges waits for it, and for one that says nothing no longer than this. */
const WAIT_MS = 10_000;

/**
 * Takes a snapshot that is being purged out of the snapshot store, where it is, or may be on its way. Returns false when that fails, as while the store is away: the next purge tries again. What lies in a store that the settings do not
 * name any more stays there.
 */
export async function deleteReplica(app: AppContext, disk: Disk): Promise<boolean> {
  const { id, organizationId, replication } = disk;
  const { snapshotStore } = app;
  if (replication.state === "local" || snapshotStore === null) return true;
  try {
    const signal = AbortSignal.timeout(WAIT_MS);
    await step("disk-purge.replica", () => snapshotStore.delete({ organizationId, id }, signal));
    return true;
  } catch (error) {
    app.logger.warn({ err: error, id }, "cannot delete a snapshot from the snapshot store; the next purge tries again");
    return false;
  }
}
