import { CaissonError } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import type { Disk } from "../records.ts";
import { uploadSnapshot } from "./snapshot-upload.ts";

const LOOK_INTERVAL_MS = 5_000;
/** Uploads take their share of disk and network one after the other; each sends several chunks at a time. */
const BATCH = 16;
const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 10 * 60_000;

/** Uploads the snapshots of this node that are to be replicated, one after the other, in the background. What fails is tried again, after pauses that double and vary. */
export class Replicator {
  readonly #wakes: Array<() => void> = [];
  #isWoken = false;

  /** Looks at once for what is to be uploaded. */
  wake(): void {
    this.#isWoken = true;
    for (const wake of this.#wakes.splice(0)) wake();
  }

  /** Runs until the returned function is called; it resolves when nothing is under way any more. */
  start(app: AppContext, snapshotStore: SnapshotStore): () => Promise<void> {
    const stopping = new AbortController();
    const running = this.#run(app, snapshotStore, stopping.signal);
    return async () => {
      stopping.abort(new CaissonError("SHUTTING_DOWN", "The server is stopping"));
      this.wake();
      await running;
    };
  }

  async #run(app: AppContext, snapshotStore: SnapshotStore, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#isWoken = false;
      const due = await this.#listDue(app);
      for (const snapshot of due) if (!signal.aborted) await this.#upload(app, snapshotStore, snapshot, signal);
      if (due.length < BATCH && !signal.aborted) await this.#pause();
    }
  }

  async #listDue(app: AppContext): Promise<readonly Disk[]> {
    const regions = [...app.regions.keys()];
    try {
      return await app.store.disks.listDueReplications(app.owner.nodeId, regions, Date.now(), BATCH);
    } catch (error) {
      app.metrics.countBackgroundError("replication");
      app.logger.error({ err: error }, "cannot look for snapshots to replicate; it is tried again");
      return [];
    }
  }

  async #upload(app: AppContext, snapshotStore: SnapshotStore, snapshot: Disk, signal: AbortSignal): Promise<void> {
    const { id, slug, replication } = snapshot;
    try {
      await uploadSnapshot(app, snapshotStore, snapshot, signal);
    } catch (error) {
      if (signal.aborted) return;
      app.metrics.countBackgroundError("replication");
      const longestMs = Math.min(FIRST_PAUSE_MS * 2 ** replication.attempts, LONGEST_PAUSE_MS);
      const pauseMs = Math.round(longestMs * (0.5 + Math.random() / 2));
      app.logger.error({ err: error, id, slug, pauseMs }, "cannot replicate a snapshot; it is tried again");
      const message = error instanceof Error ? error.message : String(error);
      await app.store.disks
        .failReplication(id, message, Date.now() + pauseMs)
        .catch((failure: unknown) =>
          app.logger.error({ err: failure, id }, "cannot record why a snapshot is not replicated"),
        );
    }
  }

  async #pause(): Promise<void> {
    if (this.#isWoken) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LOOK_INTERVAL_MS);
      this.#wakes.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
