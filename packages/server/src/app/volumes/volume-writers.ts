import type { AppContext } from "../context.ts";

/** The sandbox that can write to each of these volumes, by volume id; volumes without one are absent. */
export async function listWriters(app: AppContext, volumeIds: readonly string[]): Promise<ReadonlyMap<string, string>> {
  return volumeIds.length === 0 ? new Map() : app.store.sandboxes.writers(volumeIds);
}
