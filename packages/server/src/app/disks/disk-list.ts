import type { Disk, DiskKind, DiskQuery } from "@caisson/database";
import type { Actor, AppContext } from "../context.ts";

export type DiskListInput = Omit<DiskQuery, "organizationId" | "kind">;

export interface DiskPage {
  readonly disks: readonly Disk[];
  /** Where the next page begins, for `beforeSequence`; null on the last page. */
  readonly nextSequence: number | null;
}

/** One page of the organization's volumes or snapshots, newest first. */
export async function listDisks(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  input: DiskListInput,
): Promise<DiskPage> {
  const found = await app.store.disks.list({
    ...input,
    organizationId: actor.organization.id,
    kind,
    // One more than asked for tells whether there is a next page.
    limit: input.limit + 1,
  });
  const disks = found.slice(0, input.limit);
  return { disks, nextSequence: found.length > input.limit ? (disks.at(-1)?.sequence ?? null) : null };
}
