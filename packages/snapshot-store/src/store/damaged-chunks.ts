import type { ObjectStore } from "@caisson/objects";
import { chunkName } from "./stored-chunk.ts";

/** Names of the chunks of an organization that somebody could not read: uploads that begin later count on none of them. Each is an object of its own, so that those who find some at once need no lock. */
export async function listDamagedChunks(
  objects: ObjectStore,
  organizationId: string,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const names = new Set<string>();
  for await (const { key } of objects.list(`damaged/${organizationId}/`, signal)) names.add(chunkName(key));
  return names;
}

export function damagedKey(organizationId: string, name: string): string {
  return `damaged/${organizationId}/${name}`;
}
