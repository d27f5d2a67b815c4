import type { FreeBytes, SharedPools } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../app/context.ts";
import { sharedPools } from "../app/nodes/node-begin.ts";
import type { ConnectedNode } from "../app/nodes/node-directory.ts";
import { within } from "../app/operations/within.ts";
import { runEvery } from "./run-every.ts";

/** A lease outlives four renewals that fail. */
export const LEASE_MS = 15_000;
const RENEW_INTERVAL_MS = 3_000;
/** The longest that a renewal waits for what a pool has free. */
const LOOK_MS = 1_000;

/**
 * Renews the lease of a node that this server is connected to. A renewal that fails ends nothing: sandboxes go on, and the next one tries again; the log tells of the first of
 * several. `onReplaced` is called when a later run of the node has begun, or it was forgotten: nothing more may be done with this one.
 */
export class NodeLease {
  readonly #app: Pick<AppContext, "store" | "metrics" | "logger">;
  readonly #connected: ConnectedNode;
  readonly #onReplaced: (error: Error) => void;
  #isFailing = false;
  /** What the row has of this run. */
  #shared: SharedPools;

  constructor(
    app: Pick<AppContext, "store" | "metrics" | "logger">,
    connected: ConnectedNode,
    onReplaced: (error: Error) => void,
  ) {
    this.#app = app;
    this.#connected = connected;
    this.#onReplaced = onReplaced;
    this.#shared = sharedPools([...connected.regions.values()].map((region) => ({ ...region, baseImages: [] })));
  }

  /** Renews it until the returned function is called. */
  start(): () => Promise<void> {
    return runEvery(RENEW_INTERVAL_MS, () => this.renew());
  }

  async renew(): Promise<void> {
    const { store, metrics, logger } = this.#app;
    const { owner } = this.#connected;
    const { nodeId } = owner;
    try {
      const [freeBytes, shared] = await Promise.all([this.#freeBytes(), this.#sharedSince()]);
      await store.nodes.renew(owner, LEASE_MS, freeBytes, shared);
      this.#shared = { ...this.#shared, ...shared };
    } catch (error) {
      if (error instanceof CaissonError && error.code === "NODE_UNAVAILABLE") return this.#onReplaced(error);
      metrics.countBackgroundError("node-lease");
      if (!this.#isFailing)
        logger.error(
          { err: error, nodeId },
          "cannot renew the lease of this node; sandboxes go on, and it is tried again",
        );
      this.#isFailing = true;
      return;
    }
    if (this.#isFailing) logger.info({ nodeId }, "the lease of this node is renewed again");
    this.#isFailing = false;
  }

  /** What the node shares that was not open when it began. */
  async #sharedSince(): Promise<SharedPools> {
    const { node, regions } = this.#connected;
    const isKnown = [...regions.values()].every(({ name, hasReplicated }) => !hasReplicated || this.#shared[name]);
    if (isKnown) return {};
    return within(LOOK_MS, node.describe()).then(
      (description) => sharedPools(description.regions),
      () => ({}),
    );
  }

  /** A pool that cannot be looked at, or not soon, gets no new volumes, and keeps the lease from nothing. */
  async #freeBytes(): Promise<FreeBytes> {
    const { node, regions } = this.#connected;
    const found = await Promise.all(
      [...regions.keys()].map(async (region): Promise<[string, number][]> => {
        const capacity = await within(LOOK_MS, node.poolCapacity(region)).catch(() => null);
        if (capacity === null) return [];
        // What several nodes share says nothing of any one of them.
        const own = capacity.disks.filter((disk) => disk.class !== "replicated");
        const freeBytes = own.reduce((sum, disk) => sum + disk.freeBytes, 0);
        // The store compares the nodes by it: a number that is none would keep new volumes from all of them.
        return Number.isSafeInteger(freeBytes) ? [[region, freeBytes]] : [];
      }),
    );
    return Object.fromEntries(found.flat());
  }
}
