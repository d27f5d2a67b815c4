import { step } from "@caisson/linux";
import type { AppContext } from "../context.ts";
import type { Disk } from "../records.ts";

/** Who purges waits for it, and for a store that says nothing no longer than this. */
export const REPLICA_WAIT_MS = 10_000;

/** Whether the snapshot store may have something of it. */
export function mayHaveReplica({ state, retryAtMs }: Disk["replication"]): boolean {
  return state !== "local" || retryAtMs !== null;
}

/** How one round of purges uses the snapshot store: the first failure ends asking it, so that a store that says nothing holds up a round once, and not once for each snapshot. */
export class ReplicaRound {
  readonly #signal: AbortSignal | null;
  #isOver: boolean;

  /** `signal`: the server ends. */
  constructor(signal: AbortSignal | null = null, { isOver = false }: { readonly isOver?: boolean } = {}) {
    this.#signal = signal;
    this.#isOver = isOver;
  }

  /** One that asks the store nothing: what has a copy there is left to the next purge. */
  static silent(): ReplicaRound {
    return new ReplicaRound(null, { isOver: true });
  }

  /**
   * Takes a snapshot that is being purged out of the snapshot store, where it is, or may be on its way. Returns false when that fails, as while the store is away: the next purge tries again. What lies in a store that the settings
   * do not name any more stays there.
   */
  async delete(app: AppContext, { id, organizationId, replication }: Disk): Promise<boolean> {
    const { snapshotStore } = app;
    if (!mayHaveReplica(replication) || snapshotStore === null) return true;
    if (this.#isOver) return false;
    try {
      const late = AbortSignal.timeout(REPLICA_WAIT_MS);
      const signal = this.#signal === null ? late : AbortSignal.any([late, this.#signal]);
      await step("disk-purge.replica", () => snapshotStore.delete({ organizationId, id }, signal));
      return true;
    } catch (error) {
      this.#isOver = true;
      app.logger.warn(
        { err: error, id },
        "cannot delete a snapshot from the snapshot store; the next purge tries again",
      );
      return false;
    }
  }
}
