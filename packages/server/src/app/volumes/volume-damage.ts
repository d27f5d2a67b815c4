import type { Disk } from "@caisson/database";
import { step } from "@caisson/linux";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";

/** Records that a volume lost writes or that its file system broke, as its node says: it is shown with the volume until somebody acknowledges it. */
export async function recordVolumeDamage(
  app: Pick<AppContext, "store" | "metrics">,
  nodeId: string,
  volumeId: string,
  message: string,
): Promise<void> {
  app.metrics.volumeDamages.inc();
  const volume = await app.store.disks.get(volumeId);
  if (volume?.owner.nodeId !== nodeId) return;
  const event = { ...auditEvent(null, "volume-damage", volume, { slug: volume.slug, message }), outcome: "DATA_LOST" };
  await step("volume-damage.commit", () => app.store.disks.recordError(volumeId, { message, atMs: event.atMs }, event));
}

/** Says that somebody knows what went wrong with a volume: from here on it looks healthy again. Nothing wrong is success. */
export async function acknowledgeVolume(app: AppContext, actor: Actor, idOrSlug: string): Promise<Disk> {
  const volume = await requireDisk(app, actor, "volume", idOrSlug);
  const event = auditEvent(actor, "volume-acknowledge", volume, { lastError: volume.lastError?.message ?? null });
  return step("volume-acknowledge.commit", () => app.store.disks.acknowledgeError(volume.id, event));
}
