import type { ImageRecord } from "@caisson/database";
import { type AppContext, requireRegion } from "./context.ts";

/** Measures the image now, on demand, and returns the record with the new figures. */
export async function refreshUsage(app: AppContext, image: ImageRecord): Promise<ImageRecord> {
  const usage = await requireRegion(app, image.region).storage.usage(image.id);
  if (usage.allocatedBytes === image.allocatedBytes && usage.flattenedBytes === image.flattenedBytes) return image;
  await app.store.images.setUsage(image.id, usage);
  return { ...image, ...usage };
}
