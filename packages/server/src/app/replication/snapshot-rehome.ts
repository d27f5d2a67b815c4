import { type Disk, isLost } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../context.ts";
import { takeOverIfLost } from "../disks/disk-take-over.ts";
import { pickNode } from "../nodes/node-choice.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";

/**
 * The snapshot, on a node: one whose node was forgotten, and that is in the snapshot store, is given to another node of its region first: `near`, where it is to be used, or any. That is one transaction; its
 * image comes to the node by `fetchIfLost`, also later. One in a shared pool whose node is lost is taken over (`takeOverIfLost`). All others stay as they are. Throws as both do, and `SNAPSHOT_STORE_UNAVAILABLE` when the settings name no store.
 */
export async function rehomeIfLost(app: AppContext, disk: Disk, near: ConnectedNode | null = null): Promise<Disk> {
  const snapshot = await takeOverIfLost(app, disk, near);
  if (snapshot.kind !== "snapshot" || snapshot.lostAtMs === null || isLost(snapshot)) return snapshot;
  if (app.snapshotStore === null)
    throw new CaissonError(
      "SNAPSHOT_STORE_UNAVAILABLE",
      `Cannot use snapshot ${JSON.stringify(snapshot.slug)}: its node was forgotten, and the snapshot store that it is in is not in this server's settings any more. Set snapshot_store.url again`,
    );
  const { owner } = near ?? (await pickNode(app, snapshot.region));
  return step("snapshot-rehome.commit", () => app.store.disks.rehome(snapshot.id, owner));
}
