import type { Disk, DiskKind } from "@caisson/database";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { refreshUsage } from "./usage.ts";

/** A volume or snapshot by id or slug. `isMeasured`: its sizes are of now. Throws `VOLUME_NOT_FOUND` or `SNAPSHOT_NOT_FOUND`. */
export async function getDisk(
  app: AppContext,
  actor: Actor,
  kind: DiskKind,
  idOrSlug: string,
  { isMeasured }: { readonly isMeasured: boolean },
): Promise<Disk> {
  const disk = await requireDisk(app, actor, kind, idOrSlug);
  return isMeasured ? refreshUsage(app, disk) : disk;
}
