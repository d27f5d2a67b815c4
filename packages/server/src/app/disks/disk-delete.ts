import type { DiskKind } from "@caisson/database";
import { step } from "@caisson/linux";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { waitForHolders } from "../volumes/volume-holders.ts";

/**
 * Deletes a volume or snapshot: it is gone from every list and its slug is free at once; its image stays until the retention is over. One
 * transaction, so there is nothing for a crash to leave half done.
 */
export async function deleteDisk(app: AppContext, actor: Actor, kind: DiskKind, idOrSlug: string): Promise<void> {
  const { id } = await requireDisk(app, actor, kind, idOrSlug);
  await waitForHolders(app, id);
  await app.locks.run(id, async () => {
    const disk = await requireDisk(app, actor, kind, id);
    const nowMs = Date.now();
    const event = auditEvent(actor, `${kind}-delete`, disk, { slug: disk.slug });
    await step(`${kind}-delete.commit`, () =>
      app.store.disks.delete(id, nowMs, nowMs + app.config.volumes.retentionMs, event),
    );
  });
}
