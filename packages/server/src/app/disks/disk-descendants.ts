import type { Disk, DiskKind } from "@caisson/database";
import { type Actor, type AppContext, requireDisk } from "../context.ts";

const MAX_DESCENDANTS = 1000;

/** Volumes and snapshots made from this one, directly or through others, oldest first. Throws `VOLUME_NOT_FOUND` or `SNAPSHOT_NOT_FOUND`. */
export async function listDescendants(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  idOrSlug: string,
): Promise<readonly Disk[]> {
  const { id, organizationId } = await requireDisk(app, actor, kind, idOrSlug);
  return app.store.disks.descendants(organizationId, id, MAX_DESCENDANTS);
}
