import type { AppContext } from "../context.ts";

/** As of when the snapshot store has each of these volumes, in epoch milliseconds: when its newest replicated snapshot was taken; of those that have one. */
export function listReplicatedStates(
  app: AppContext,
  volumeIds: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  return app.store.disks.replicatedStates(volumeIds);
}
