import { CaissonError } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";

/** Throws `NOT_SUPPORTED` when the settings name no snapshot store, which backups go to. */
export function requireSnapshotStore({ snapshotStore }: AppContext): SnapshotStore {
  if (snapshotStore !== null) return snapshotStore;
  throw new CaissonError(
    "NOT_SUPPORTED",
    "This server has no snapshot store, which backups go to: set snapshot_store.url in its settings",
  );
}
