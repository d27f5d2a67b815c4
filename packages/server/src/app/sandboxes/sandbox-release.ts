import type { SandboxRecord } from "@caisson/database";
import { CaissonError, classOfId, type ErrorCode } from "@caisson/model";
import type { SandboxEnd } from "@caisson/node";
import type { AppContext } from "../context.ts";
import { livingOpenings } from "../disks/disk-heir.ts";
import { refreshUsage } from "../disks/usage.ts";

/** What a node answers of a replicated volume that the run before may still write to. */
const MAY_BE_WRITTEN: ReadonlySet<ErrorCode> = new Set([
  "DISK_UNAVAILABLE",
  "REGION_UNAVAILABLE",
  "SHUTTING_DOWN",
  "VOLUME_IN_USE",
]);

/**
 * Gives back all that a sandbox has on its node. Where the run of the node that had it is over, the kernel has dropped processes, mounts and devices, and its volumes are brought
 * into the state that a proper unmount leaves. With a node that was given up, nothing is left. Throws `NODE_UNAVAILABLE` while the node cannot be reached.
 * Throws too while the replicated pool has not shut the run that is over out: its volumes stay held, because that run may still write to them.
 */
export async function releaseSandbox(
  app: AppContext,
  sandbox: Pick<SandboxRecord, "id" | "owner" | "region">,
): Promise<SandboxEnd> {
  if (app.nodes.isLost(sandbox.owner.nodeId)) return { damages: [] };
  // What it has on other disks than those that were taken over waits for its node, which recovers them.
  if (app.nodes.isShutOut(sandbox.owner) && (await app.store.sandboxes.holds(sandbox.id)).length === 0)
    return { damages: [] };
  const { owner, node } = app.nodes.of(sandbox);
  if (owner.generation === sandbox.owner.generation) return node.stopSandbox(sandbox.id);
  for (const { volumeId, isReadOnly } of await app.store.sandboxes.holds(sandbox.id)) {
    if (!isReadOnly) await recoverVolume(app, volumeId);
  }
  return { damages: [] };
}

/** Brings a volume whose writer died into the state that a proper unmount leaves, so that it can be snapshot and mounted read-only. */
async function recoverVolume(app: AppContext, volumeId: string): Promise<void> {
  const volume = await app.store.disks.get(volumeId);
  if (volume === null) return;
  try {
    const { node } = app.nodes.of(volume);
    await node.recoverDisk(volume, await livingOpenings(app, volume));
    await refreshUsage(app, volume);
  } catch (error) {
    if (error instanceof CaissonError && error.code === "NODE_UNAVAILABLE") throw error;
    const isReplicated = classOfId(volumeId) === "replicated";
    if (isReplicated && error instanceof CaissonError && MAY_BE_WRITTEN.has(error.code)) throw error;
    // It is this node's again, and one damaged volume must not keep the others away; mounting it tries again and tells its user.
    app.logger.error({ err: error, volumeId, slug: volume.slug }, "cannot recover the file system of a volume");
  }
}
