import type { SandboxRecord } from "@caisson/database";
import { CaissonError, classOfId } from "@caisson/model";
import type { SandboxEnd } from "@caisson/node";
import type { AppContext } from "../context.ts";
import { refreshUsage } from "../disks/usage.ts";

/**
 * Gives back all that a sandbox has on its node. Where the run of the node that had it is over, the kernel has dropped processes, mounts and devices, and its volumes are brought
 * into the state that a proper unmount leaves. With a node that was given up, nothing is left. Throws `NODE_UNAVAILABLE` while the node cannot be reached, and `DISK_UNAVAILABLE` while the replicated pool cannot: its volumes stay held, because it may still write to them.
 */
export async function releaseSandbox(
  app: AppContext,
  sandbox: Pick<SandboxRecord, "id" | "owner" | "region">,
): Promise<SandboxEnd> {
  if (app.nodes.isLost(sandbox.owner.nodeId)) return { damages: [] };
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
    await app.nodes.of(volume).node.recoverDisk(volume);
    await refreshUsage(app, volume);
  } catch (error) {
    if (error instanceof CaissonError && error.code === "NODE_UNAVAILABLE") throw error;
    // Until the pool has shut the lost run out, that may still write to it.
    if (error instanceof CaissonError && error.code === "DISK_UNAVAILABLE" && classOfId(volumeId) === "replicated")
      throw error;
    // One damaged volume must not keep the others away; mounting it tries again and tells its user.
    app.logger.error({ err: error, volumeId, slug: volume.slug }, "cannot recover the file system of a volume");
  }
}
