import { CaissonError } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import type { Disk } from "../records.ts";
import { replicateNodeByPolicy } from "./replication-policy.ts";
import { uploadSnapshot } from "./snapshot-upload.ts";

const LOOK_INTERVAL_MS = 5_000;
/** Uploads take their share of disk and network one after the other; each sends several chunks at a time. */
const BATCH = 16;
const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 10 * 60_000;

/** Uploads the snapshots of the nodes at hand that are to be replicated, one after the other, in the background. What fails is tried again, after pauses that double and vary. */
export class Replicator {
  readonly #wakes: Array<() => void> = [];
  readonly #known = new WeakSet<ConnectedNode>();
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
      let isMore = false;
      for (const connected of app.nodes.all()) {
        const due = await this.#listDue(app, connected);
        for (const snapshot of due) if (!signal.aborted) await this.#upload(app, snapshotStore, snapshot, signal);
        isMore ||= due.length === BATCH;
      }
      if (!isMore && !signal.aborted) await this.#pause();
    }
  }

  /** What is due on a node; when that is new here, everything of it that the policy asks for first. */
  async #listDue(app: AppContext, connected: ConnectedNode): Promise<readonly Disk[]> {
    const { owner, regions } = connected;
    try {
      if (!this.#known.has(connected)) await replicateNodeByPolicy(app, connected);
      this.#known.add(connected);
      return await app.store.disks.listDueReplications(owner.nodeId, [...regions.keys()], Date.now(), BATCH);
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
      // Tenants read it: what is not made for them stays in the log.
      const message =
        error instanceof CaissonError ? error.message : "It could not be replicated: the server's log says why";
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
