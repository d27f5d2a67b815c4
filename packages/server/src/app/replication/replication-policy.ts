import type { Disk } from "@caisson/database";
import type { ReplicationPolicy } from "../../snapshot-store/snapshot-store-config.ts";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";

/** Which snapshots of a region go to the store without being asked for. */
function policyOf(app: AppContext, region: string): ReplicationPolicy {
  const { snapshotStore } = app.config;
  if (snapshotStore === null) return "none";
  return snapshotStore.policies.get(region) ?? snapshotStore.defaultPolicy;
}

/**
 * Asks for a snapshot that was just made or labelled to be replicated, where the policy says so. It is acknowledged already: what fails here is logged, and the next start looks at all snapshots again.
 */
export async function replicateByPolicy(app: AppContext, snapshot: Disk): Promise<Disk> {
  const { id, kind, region, labels, replication } = snapshot;
  const policy = policyOf(app, region);
  const isWanted = policy === "all" || (policy === "labelled" && labels.replicate === "true");
  if (kind !== "snapshot" || !isWanted || replication.state !== "local") return snapshot;
  try {
    const asked = await app.store.disks.requestReplication(id, Date.now(), null);
    app.replicator.wake();
    return asked;
  } catch (error) {
    app.logger.error({ err: error, id }, "cannot ask for a snapshot to be replicated; the next start does");
    return snapshot;
  }
}

/** Tells of regions in the settings that no node has: a slip of the pen, or a node that joins later, so that the server starts all the same. */
export async function reportUnknownPolicies(app: Pick<AppContext, "config" | "store" | "logger">): Promise<void> {
  const known = new Set((await app.store.nodes.list()).flatMap(({ regions }) => regions));
  const unknown = [...(app.config.snapshotStore?.policies.keys() ?? [])].filter((region) => !known.has(region));
  if (unknown.length > 0)
    app.logger.warn({ regions: unknown }, "snapshot_store.regions in the settings names regions that no node has");
}

/** Asks for the snapshots of a node that were made when the settings were others, or whose request was cut off. */
export async function replicateNodeByPolicy(app: AppContext, { owner, regions }: ConnectedNode): Promise<void> {
  for (const region of regions.keys()) {
    const policy = policyOf(app, region);
    if (policy !== "none") await app.store.disks.requestReplications(owner.nodeId, region, policy, Date.now());
  }
}
