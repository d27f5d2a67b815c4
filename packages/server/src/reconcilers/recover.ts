import { step } from "@caisson/linux";
import { recoverFileSystem } from "@caisson/storage";
import type { AppContext } from "../app/context.ts";
import { requireRegion } from "../app/context.ts";
import { purgeDisk } from "../app/disk-purge.ts";
import { refreshUsage } from "../app/usage.ts";
import { finishGrow } from "../app/volume-grow.ts";
import { withDevice } from "../app/with-device.ts";

/**
 * Settles what the last run left, before the server takes requests. In this order: sandboxes first, since their end frees volumes; then intents,
 * which are undone (creations) or finished (purges, grows); then the pool, whose unowned images go. The kernel has already dropped the old
 * server's processes, mounts and devices. Every part can be repeated, so a crash in here is settled by the next start.
 */
export async function recover(app: AppContext): Promise<void> {
  for (const id of await app.runtime.list()) await app.runtime.stop(id);
  for (const sandbox of await app.store.sandboxes.listLive()) {
    for (const { volumeId, isReadOnly } of await app.store.sandboxes.holds(sandbox.id)) {
      if (!isReadOnly) await recoverVolume(app, volumeId);
    }
    await app.store.sandboxes.finish(sandbox.id, "server-restart", Date.now());
    app.logger.info({ sandboxId: sandbox.id }, "sandbox ended with the server that ran it");
  }
  for (const disk of await app.store.disks.listUnsettled()) {
    const { storage } = requireRegion(app, disk.region);
    if (disk.state === "purging") {
      await purgeDisk(app, disk);
    } else if (disk.state === "creating") {
      await storage.deleteImage(disk.id);
      await app.store.disks.forget(disk.id);
      app.logger.info({ id: disk.id, slug: disk.slug }, "undid an unfinished creation");
    } else {
      await finishGrow(app, disk);
      app.logger.info({ id: disk.id, slug: disk.slug, capacityBytes: disk.growToBytes }, "finished growing a volume");
    }
  }
  await reconcilePools(app);
}

/** Brings a volume whose writer died into the state that a proper unmount leaves, so that it can be snapshot and mounted read-only. */
async function recoverVolume(app: AppContext, volumeId: string): Promise<void> {
  const volume = await app.store.disks.get(volumeId);
  if (volume === null) return;
  const region = requireRegion(app, volume.region);
  try {
    await withDevice(region, volumeId, (path) => step("recover.file-system", () => recoverFileSystem(path)));
    await refreshUsage(app, volume);
  } catch (error) {
    // One damaged volume must not keep the others away; mounting it tries again and tells its user.
    app.logger.error({ err: error, volumeId, slug: volume.slug }, "cannot recover the file system of a volume");
  }
}

/** Compares each pool with the database: scratch disks and old base images go, what cannot be explained is reported and kept. */
async function reconcilePools(app: AppContext): Promise<void> {
  const known = new Map((await app.store.disks.listIds()).map(({ id, region }) => [id, region]));
  for (const region of app.regions.values()) {
    const present = new Set<string>();
    for await (const image of region.storage.listImages()) {
      present.add(image.id);
      if (known.get(image.id) === region.name || region.ownImageIds.has(image.id)) continue;
      if (image.id.startsWith("scr_") || image.id.startsWith("img_")) await region.storage.deleteImage(image.id);
      else
        app.logger.warn(
          { id: image.id, region: region.name },
          "the pool holds an image that the database does not know; it is kept",
        );
    }
    for (const [id, name] of known) {
      if (name === region.name && !present.has(id))
        app.logger.error({ id, region: name }, "the image of a volume or snapshot is missing from the pool");
    }
  }
}
