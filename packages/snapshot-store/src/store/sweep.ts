import type { ObjectStore } from "@caisson/objects";
import { Condemned } from "./condemned.ts";
import type { Manifest } from "./manifest.ts";
import { chunkName } from "./stored-chunk.ts";

export interface SweepOptions {
  readonly objects: ObjectStore;
  readonly organizationId: string;
  /** Every manifest of the organization. Throws when one cannot be read: what it needs is not known then. */
  readonly manifests: () => AsyncIterable<Manifest>;
  readonly graceMs: number;
  readonly nowMs: number;
  readonly signal: AbortSignal;
}

export interface Sweep {
  readonly deletedChunks: number;
  readonly deletedBytes: number;
}

/**
 * Deletes chunks that no snapshot of the organization has, in two looks that lie a grace apart. The first look condemns them: uploads that begin later count on none of them. The second one deletes those of them that still no
 * manifest has: uploads that had begun before the first look are over by then, since none takes longer than half of the grace, and their manifests are there to be seen. No lock is needed, also among several servers: a
 * condemned name is used by nobody new, and a deleted one never comes back. The clock is that of whoever sweeps.
 */
export async function sweep({
  objects,
  organizationId,
  manifests,
  graceMs,
  nowMs,
  signal,
}: SweepOptions): Promise<Sweep> {
  const condemned = await Condemned.read(objects, organizationId, signal);
  // The list is not replaced before its time: a newer one would put off what stands in it.
  if (condemned.keys.size > 0 && nowMs - condemned.atMs < graceMs) return { deletedChunks: 0, deletedBytes: 0 };
  const needed = new Set<string>();
  for await (const { chunks } of manifests()) for (const { name } of chunks) needed.add(name);
  const next = new Set<string>();
  let [deletedChunks, deletedBytes] = [0, 0];
  for await (const { key, sizeBytes } of objects.list(`chunks/${organizationId}/`, signal)) {
    if (needed.has(chunkName(key))) continue;
    if (!condemned.keys.has(key)) {
      next.add(key);
      continue;
    }
    await objects.delete(key, signal);
    deletedChunks += 1;
    deletedBytes += sizeBytes;
  }
  if (next.size > 0 || condemned.keys.size > 0) await new Condemned(next, nowMs).write(objects, organizationId);
  return { deletedChunks, deletedBytes };
}
