import type { AuditEvent, Disk } from "@caisson/database";
import type { AppContext } from "../context.ts";
import { measureDisk } from "../disks/disk-measure.ts";

/**
 * Brings a grow that was cut off to an end: finishes it when the image has grown. Null: it has not, so that the intent can be forgotten. The caller
 * holds the volume's lock, or nothing else runs yet.
 */
export async function settleGrow(app: AppContext, id: string, event: AuditEvent): Promise<Disk | null> {
  const volume = await app.store.disks.get(id);
  if (volume === null) return null;
  // The commit that failed has happened, or the intent was never recorded.
  if (volume.growToBytes === null) return volume.capacityBytes === event.detail.capacityBytes ? volume : null;
  const { region } = volume;
  const { node } = app.nodes.of(volume);
  const grown = await node.getDisk({ region, id });
  if (grown === null || grown.sizeBytes <= volume.capacityBytes) return null;
  await node.growDisk({ region, id }, volume.growToBytes);
  return app.store.disks.finishGrow(id, await measureDisk(node, volume, volume), event);
}
