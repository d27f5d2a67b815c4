import type { Disk, DiskKind } from "@caisson/database";
import { step } from "@caisson/linux";
import { type Labels, requireLabels } from "@caisson/model";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { replicateByPolicy } from "../replication/replication-policy.ts";

/** Replaces the labels of a volume or snapshot. */
export async function labelDisk(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  idOrSlug: string,
  labels: Labels,
): Promise<Disk> {
  const disk = await requireDisk(app, actor, kind, idOrSlug);
  const checked = requireLabels(labels);
  const event = auditEvent(actor, `${kind}-label`, disk, { labels: checked });
  const labelled = await step(`${kind}-label.commit`, () => app.store.disks.setLabels(disk.id, checked, event));
  return replicateByPolicy(app, labelled);
}
