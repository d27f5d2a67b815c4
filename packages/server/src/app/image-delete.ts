import type { ImageKind, ImageRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError, type Labels, requireLabels, requireSlug } from "@caisson/model";
import { type Actor, type AppContext, recordEvent, requireImage, requireRegion } from "./context.ts";
import { letHoldersEnd } from "./volume-holders.ts";

/**
 * Deletes a volume or snapshot: it is gone from every list and its slug is free at once; its image stays until the retention is over. One
 * transaction, so there is nothing for a crash to leave half done.
 */
export async function deleteImage(app: AppContext, actor: Actor, kind: ImageKind, idOrSlug: string): Promise<void> {
  const { id } = await requireImage(app, actor, kind, idOrSlug);
  await letHoldersEnd(app, id);
  await app.locks.run(id, async () => {
    const image = await requireImage(app, actor, kind, id);
    const nowMs = Date.now();
    await step(`${kind}-delete.commit`, () =>
      app.store.images.delete(id, nowMs, nowMs + app.config.volumes.retentionMs),
    );
    await recordEvent(app, actor, `${kind}-delete`, image, { slug: image.slug });
  });
}

/** Brings back a deleted volume or snapshot, by id, under its old slug or a new one. Throws `SLUG_ALREADY_IN_USE` when that is taken. */
export async function restoreImage(
  app: AppContext,
  actor: Actor,
  kind: ImageKind,
  id: string,
  slug?: string | null,
): Promise<ImageRecord> {
  return app.locks.run(id, async () => {
    const image = await app.store.images.get(id);
    if (
      image === null ||
      image.kind !== kind ||
      image.organizationId !== actor.organization.id ||
      image.state !== "deleted"
    ) {
      throw new CaissonError(
        kind === "volume" ? "VOLUME_NOT_FOUND" : "SNAPSHOT_NOT_FOUND",
        `There is no deleted ${kind} with the id ${JSON.stringify(id.slice(0, 64))}: list the deleted ones; after the retention they are gone`,
      );
    }
    const restored = await step(`${kind}-restore.commit`, () =>
      app.store.images.restore(id, slug == null ? image.slug : requireSlug(slug)),
    );
    await recordEvent(app, actor, `${kind}-restore`, restored, { slug: restored.slug });
    return restored;
  });
}

export async function labelImage(
  app: AppContext,
  actor: Actor,
  kind: ImageKind,
  idOrSlug: string,
  labels: Labels,
): Promise<ImageRecord> {
  const image = await requireImage(app, actor, kind, idOrSlug);
  return app.store.images.setLabels(image.id, requireLabels(labels));
}

/** Frees the storage of an image in state `purging`. Returns false while a sandbox still runs from it: a later purge takes it. */
export async function purgeImage(app: AppContext, image: ImageRecord): Promise<boolean> {
  const region = requireRegion(app, image.region);
  if (!(await region.roots.evict(image.id))) return false;
  return app.locks.run(image.id, async () => {
    await step("image-purge.delete", () => region.storage.deleteImage(image.id));
    await step("image-purge.forget", () => app.store.images.forget(image.id));
    await recordEvent(app, null, `${image.kind}-purge`, image, { slug: image.slug });
    return true;
  });
}
