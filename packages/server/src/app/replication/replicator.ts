import { CaissonError } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import type { Disk } from "../records.ts";
import { replicateNodeByPolicy } from "./replication-policy.ts";
import { uploadSnapshot } from "./snapshot-upload.ts";

const LOOK_INTERVAL_MS = 5_000;
const BATCH = 16;
const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 10 * 60_000;

/** Uploads of different nodes at a time: each has some chunks in memory. A node that hangs keeps one of them until its deadlines end that. */
const UPLOADS_AT_ONCE = 8;

/**
 * Uploads the snapshots of the nodes at hand that are to be replicated in the background: those of each node one after the other, and none waits for another node's. What fails is tried again, after pauses that
 * double and vary.
 */
export class Replicator {
  /** When this run of the server brought something into the store last, in epoch milliseconds; null: it has not. */
  lastUploadAtMs: number | null = null;
  /** Why the last try of this run failed, for administrators; null: it did not. */
  lastError: string | null = null;
  readonly #wakes = new Set<() => void>();
  readonly #places = new Places(UPLOADS_AT_ONCE);

  /** Looks at once for what is to be uploaded. */
  wake(): void {
    for (const wake of this.#wakes) wake();
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

  /** Gives each node that can be reached a loop of its own, which ends with its connection; the next connection's begins when that is over. */
  async #run(app: AppContext, snapshotStore: SnapshotStore, signal: AbortSignal): Promise<void> {
    const loops = new Map<string, Promise<void>>();
    while (!signal.aborted) {
      using look = this.#nextLook();
      for (const connected of app.nodes.all()) {
        const { nodeId } = connected.owner;
        if (loops.has(nodeId)) continue;
        const loop = this.#serve(app, snapshotStore, connected, signal).finally(() => loops.delete(nodeId));
        loops.set(nodeId, loop);
      }
      await look.due;
    }
    await Promise.all(loops.values());
  }

  /** Never rejects. */
  async #serve(
    app: AppContext,
    snapshotStore: SnapshotStore,
    connected: ConnectedNode,
    signal: AbortSignal,
  ): Promise<void> {
    const { nodeId } = connected.owner;
    const isOver = () => signal.aborted || app.nodes.get(nodeId) !== connected;
    let isNew = true;
    while (!isOver()) {
      using look = this.#nextLook();
      const due = await this.#listDue(app, connected, isNew);
      isNew &&= due === null;
      let isAnySettled = false;
      for (const snapshot of due ?? []) {
        using _place = await this.#places.take();
        if (isOver()) return;
        isAnySettled = (await this.#upload(app, snapshotStore, snapshot, signal)) || isAnySettled;
      }
      // Those of a batch that is due as before, since its failures could not be recorded, wait as well.
      if (due?.length !== BATCH || !isAnySettled) await look.due;
    }
  }

  /** What is due on a node; when that is new here, everything of it that the policy asks for first. Null: nobody knows. */
  async #listDue(app: AppContext, connected: ConnectedNode, isNew: boolean): Promise<readonly Disk[] | null> {
    const { owner, regions } = connected;
    try {
      if (isNew) await replicateNodeByPolicy(app, connected);
      return await app.store.disks.listDueReplications(owner.nodeId, [...regions.keys()], Date.now(), BATCH);
    } catch (error) {
      app.metrics.countBackgroundError("replication");
      app.logger.error({ err: error }, "cannot look for snapshots to replicate; it is tried again");
      return null;
    }
  }

  /** Never rejects. False: the snapshot is due as before. */
  async #upload(app: AppContext, snapshotStore: SnapshotStore, snapshot: Disk, signal: AbortSignal): Promise<boolean> {
    const { id, slug, replication } = snapshot;
    try {
      await uploadSnapshot(app, snapshotStore, snapshot, signal);
      this.lastUploadAtMs = Date.now();
      this.lastError = null;
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      this.lastError = error instanceof Error ? error.message : String(error);
      app.metrics.countBackgroundError("replication");
      const longestMs = Math.min(FIRST_PAUSE_MS * 2 ** replication.attempts, LONGEST_PAUSE_MS);
      const pauseMs = Math.round(longestMs * (0.5 + Math.random() / 2));
      app.logger.error({ err: error, id, slug, pauseMs }, "cannot replicate a snapshot; it is tried again");
      // Tenants read it: what is not made for them stays in the log.
      const message =
        error instanceof CaissonError ? error.message : "It could not be replicated: the server's log says why";
      try {
        await app.store.disks.failReplication(id, message, Date.now() + pauseMs);
        return true;
      } catch (failure) {
        app.logger.error({ err: failure, id }, "cannot record why a snapshot is not replicated");
        return false;
      }
    }
  }

  /** Becomes due after the interval, or when somebody wakes this from now on. */
  #nextLook(): Disposable & { readonly due: Promise<void> } {
    const { promise: due, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, LOOK_INTERVAL_MS);
    this.#wakes.add(resolve);
    const end = () => {
      clearTimeout(timer);
      this.#wakes.delete(resolve);
    };
    return { due, [Symbol.dispose]: end };
  }
}

/** So many hold a place at a time; others wait for theirs in the order in which they came. */
class Places {
  #free: number;
  readonly #waiting: Array<() => void> = [];

  constructor(count: number) {
    this.#free = count;
  }

  async take(): Promise<Disposable> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const give = () => {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    };
    return { [Symbol.dispose]: give };
  }
}
