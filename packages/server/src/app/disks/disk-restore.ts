import { type Disk, type DiskKind, diskLost, isLost } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, requireSlug } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";

/** Brings back a deleted volume or snapshot, by id, under its old slug or a new one. Throws `SLUG_ALREADY_IN_USE` when that is taken. */
export async function restoreDisk(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  id: string,
  slug?: string | null,
): Promise<Disk> {
  return app.locks.run(id, async () => {
    const disk = await app.store.disks.get(id);
    if (
      disk === null ||
      disk.kind !== kind ||
      disk.organizationId !== actor.organization.id ||
      disk.state !== "deleted"
    ) {
      throw new CaissonError(
        kind === "volume" ? "VOLUME_NOT_FOUND" : "SNAPSHOT_NOT_FOUND",
        `There is no deleted ${kind} with the id ${JSON.stringify(id.slice(0, 64))}: list the deleted ones; after the retention they are gone`,
      );
    }
    if (isLost(disk)) throw diskLost(disk);
    const newSlug = slug == null ? disk.slug : requireSlug(slug);
    const event = auditEvent(actor, `${kind}-restore`, disk, { slug: newSlug });
    return step(`${kind}-restore.commit`, () => app.store.disks.restore(id, newSlug, event));
  });
}
