import type { Disk, DiskKind } from "@caisson/database";
import { type Labels, requireLabels } from "@caisson/model";
import { type Actor, type AppContext, requireDisk } from "./context.ts";

/** Replaces the labels of a volume or snapshot. */
export async function labelDisk(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  idOrSlug: string,
  labels: Labels,
): Promise<Disk> {
  const disk = await requireDisk(app, actor, kind, idOrSlug);
  return app.store.disks.setLabels(disk.id, requireLabels(labels));
}
