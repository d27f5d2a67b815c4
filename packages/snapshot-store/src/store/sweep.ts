import type { ObjectStore } from "@caisson/objects";
import { CONDEMNED_MAX, Condemned } from "./condemned.ts";
import { damagedKey, listDamagedChunks } from "./damaged-chunks.ts";
import type { Manifest } from "./manifest.ts";
import { chunkName } from "./stored-chunk.ts";

export interface SweepOptions {
  readonly objects: ObjectStore;
  readonly organizationId: string;
  /** Every manifest of the organization. Throws when one cannot be read: what it needs is not known then. */
  readonly manifests: () => AsyncIterable<Pick<Manifest, "chunks">>;
  /** Whether an upload that was under way when the sweep began counts on a chunk. */
  readonly isCounted: (name: string) => boolean;
  readonly graceMs: number;
  /** The time by the clock of this host. */
  readonly now: () => number;
  readonly signal: AbortSignal;
}

export interface Sweep {
  readonly deletedChunks: number;
  readonly deletedBytes: number;
}

/**
 * Deletes chunks that no snapshot of the organization has, in two looks that lie a grace apart. The first look condemns them: uploads that begin later count on none of them. The second one deletes those of them that still no
 * manifest has and no upload under way counts on. Those that were under way when the second look began are told; those that ended before have manifests that are there to be seen; those that begin later count on nothing condemned. No lock
 * is needed: a condemned name is used by nobody new, and a deleted one never comes back. The clock is that of whoever sweeps; a list from its future, which a clock that was ahead has left, counts as written now. What one list has no room for waits
 * for the next one. A list that is damaged condemns nothing, and is written anew.
 */
export async function sweep({
  objects,
  organizationId,
  manifests,
  isCounted,
  graceMs,
  now,
  signal,
}: SweepOptions): Promise<Sweep> {
  const read = await Condemned.read(objects, organizationId, signal);
  const condemned = read ?? new Condemned(new Set(), 0);
  const nothing = { deletedChunks: 0, deletedBytes: 0 };
  const nowMs = now();
  if (condemned.keys.size > 0 && condemned.atMs > nowMs) {
    await new Condemned(condemned.keys, nowMs).write(objects, organizationId, signal);
    return nothing;
  }
  // The list is not replaced before its time: a newer one would put off what stands in it.
  if (condemned.keys.size > 0 && nowMs - condemned.atMs < graceMs) return nothing;
  const needed = new Set<string>();
  for await (const { chunks } of manifests()) for (const { name } of chunks) needed.add(name);
  const damaged = await listDamagedChunks(objects, organizationId, signal);
  const next = new Set<string>();
  let { deletedChunks, deletedBytes } = nothing;
  for await (const { key, sizeBytes } of objects.list(`chunks/${organizationId}/`, signal)) {
    const name = chunkName(key);
    if (needed.has(name) || isCounted(name)) continue;
    if (!condemned.keys.has(key)) {
      if (next.size < CONDEMNED_MAX) next.add(key);
      continue;
    }
    // The mark first: it has no other end.
    if (damaged.has(name)) await objects.delete(damagedKey(organizationId, name), signal);
    await objects.delete(key, signal);
    deletedChunks += 1;
    deletedBytes += sizeBytes;
  }
  // The time is that of writing: uploads count on a name until they can see it in the list.
  if (read === null || next.size > 0 || condemned.keys.size > 0)
    await new Condemned(next, now()).write(objects, organizationId, signal);
  return { deletedChunks, deletedBytes };
}
