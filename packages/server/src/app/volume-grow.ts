import type { Disk } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { growFileSystem } from "@caisson/storage";
import { type Actor, type AppContext, recordEvent, requireDisk, requireRegion } from "./context.ts";
import { measureDisk } from "./disk-measure.ts";
import { requireCapacity } from "./volume-create.ts";
import { waitForHolders } from "./volume-holders.ts";
import { withDevice } from "./with-device.ts";

/**
 * Grows a detached volume, its file system included. The intent is recorded first, then the image grows, then the file system; each step can be
 * repeated, so a crash anywhere is finished by the next start. Nothing ever shrinks.
 */
export async function growVolume(
  app: AppContext,
  actor: Actor,
  idOrSlug: string,
  capacity: string | number,
): Promise<Disk> {
  const { id } = await requireDisk(app, actor, "volume", idOrSlug);
  const capacityBytes = requireCapacity(app, capacity);
  await waitForHolders(app, id);
  return app.locks.run(id, async () => {
    const volume = await requireDisk(app, actor, "volume", id);
    if (capacityBytes < volume.capacityBytes) {
      throw new CaissonError(
        "INVALID_CAPACITY",
        `Cannot shrink volume ${JSON.stringify(volume.slug)} from ${volume.capacityBytes} to ${capacityBytes} bytes: a capacity can only grow`,
      );
    }
    if (capacityBytes === volume.capacityBytes) return volume;
    await step("volume-grow.intent", () => app.store.disks.beginGrow(id, capacityBytes));
    const grown = await finishGrow(app, { ...volume, growToBytes: capacityBytes });
    await recordEvent(app, actor, "volume-grow", grown, { fromBytes: volume.capacityBytes, capacityBytes });
    return grown;
  });
}

/** Carries out a recorded grow; the caller holds the volume's lock, or nothing else runs yet. */
export async function finishGrow(app: AppContext, volume: Disk): Promise<Disk> {
  const region = requireRegion(app, volume.region);
  const growToBytes = volume.growToBytes ?? volume.capacityBytes;
  try {
    await step("volume-grow.image", () => region.storage.growImage(volume.id, growToBytes));
  } catch (error) {
    // The image kept its size, so there is nothing to finish.
    await app.store.disks.cancelGrow(volume.id);
    throw error;
  }
  await withDevice(region, volume.id, (path) => step("volume-grow.file-system", () => growFileSystem(path)));
  const usage = await measureDisk(region, volume, volume);
  return step("volume-grow.commit", () => app.store.disks.finishGrow(volume.id, usage));
}
