import { step } from "@caisson/linux";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import type { Disk } from "../records.ts";
import { requireEvery } from "./period.ts";

/** Has the server make a snapshot of a volume that often, the first one at once, or no more (null). One transaction. The snapshots that there are stay under the rules of schedules. */
export async function setSchedule(
  app: AppContext,
  actor: Actor,
  idOrSlug: string,
  every: string | null,
): Promise<Disk> {
  const everyMs = requireEvery(app, every);
  const volume = await requireDisk(app, actor, "volume", idOrSlug);
  const event = auditEvent(actor, "volume-schedule", volume, { slug: volume.slug, every });
  return step("volume-schedule.commit", () => app.store.disks.setSchedule(volume.id, everyMs, Date.now(), event));
}
