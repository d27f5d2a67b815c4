import type { DiskKind } from "@caisson/database";
import { step } from "@caisson/linux";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { waitForHolders } from "../volumes/volume-holders.ts";
import { purgeDiskNow } from "./disk-purge-now.ts";
import { takeOverIfLost } from "./disk-take-over.ts";

/**
 * Deletes a volume or snapshot: it is gone from every list and its slug is free at once; its image stays until the retention is over. One
 * transaction, so there is nothing for a crash to leave half done. Resolves to the id, by which it can be restored or purged.
 */
export async function deleteDisk(app: AppContext, actor: Actor, kind: DiskKind, idOrSlug: string): Promise<string> {
  const found = await requireDisk(app, actor, kind, idOrSlug);
  const { id } = found;
  // A sandbox of a node that is lost has it no more where another node can take it over.
  if ((await app.store.sandboxes.holders(id)).length > 0) await takeOverIfLost(app, found);
  await waitForHolders(app, id);
  await app.locks.run(id, async () => {
    const disk = await requireDisk(app, actor, kind, id);
    const nowMs = Date.now();
    const event = auditEvent(actor, `${kind}-delete`, disk, { slug: disk.slug });
    await step(`${kind}-delete.commit`, () =>
      app.store.disks.delete(id, nowMs, nowMs + app.config.volumes.retentionMs, event),
    );
  });
  return id;
}

/**
 * Deletes it for good: its space is freed at once. A crash in between leaves a disk that is deleted, or a purge that the next start finishes.
 * Resolves to `purging` as `purgeDiskNow` does. Throws `NODE_UNAVAILABLE`, and leaves it as it is, when its node cannot be reached at the beginning.
 */
export async function deleteDiskNow(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  idOrSlug: string,
): Promise<"purged" | "purging"> {
  // Before the deletion, which would have happened although the answer is a refusal.
  const disk = await takeOverIfLost(app, await requireDisk(app, actor, kind, idOrSlug));
  if (disk.lostAtMs === null) app.nodes.of(disk);
  return purgeDiskNow(app, actor, kind, await deleteDisk(app, actor, kind, idOrSlug));
}
