import type { FreeBytes } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../app/context.ts";
import { runEvery } from "./run-every.ts";

/** A lease outlives four renewals that fail. */
export const LEASE_MS = 15_000;
const RENEW_INTERVAL_MS = 3_000;

type LeaseContext = Pick<AppContext, "store" | "owner" | "node" | "regions" | "metrics" | "logger">;

/**
 * Renews the lease of this server's node. A renewal that fails ends nothing: sandboxes go on, and the next one tries again; the log tells of the first of
 * several. `onReplaced` is called when a later run of the node has begun, or it was forgotten: this server may do nothing more.
 */
export class NodeLease {
  readonly #app: LeaseContext;
  readonly #onReplaced: (error: Error) => void;
  #isFailing = false;

  constructor(app: LeaseContext, onReplaced: (error: Error) => void) {
    this.#app = app;
    this.#onReplaced = onReplaced;
  }

  /** Renews it until the returned function is called. */
  start(): () => Promise<void> {
    return runEvery(RENEW_INTERVAL_MS, () => this.renew());
  }

  async renew(): Promise<void> {
    const { store, owner, metrics, logger } = this.#app;
    const { nodeId } = owner;
    try {
      await store.nodes.renew(owner, LEASE_MS, await this.#freeBytes());
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

  /** A pool that cannot be looked at gets no new volumes, and keeps the lease from nothing. */
  async #freeBytes(): Promise<FreeBytes> {
    const { node, regions } = this.#app;
    const capacities = await Promise.allSettled([...regions.keys()].map((region) => node.poolCapacity(region)));
    const names = [...regions.keys()];
    return Object.fromEntries(
      capacities.flatMap((found, index) =>
        found.status === "fulfilled" ? [[names[index] ?? "", found.value.freeBytes]] : [],
      ),
    );
  }
}
