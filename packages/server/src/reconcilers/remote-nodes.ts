import type { AppContext } from "../app/context.ts";
import { parseNodeAddress } from "../app/nodes/node-address.ts";
import type { OpenRemoteNode } from "../app/nodes/remote-node.ts";
import { Farewells } from "./farewells.ts";
import { LedNode } from "./led-node.ts";
import { runEvery } from "./run-every.ts";

const LOOK_INTERVAL_MS = 3_000;

/** Connects this server to the nodes on other machines that the installation has, and leaves those that it has no more. */
export class RemoteNodes implements AsyncDisposable {
  readonly #app: AppContext;
  readonly #open: OpenRemoteNode;
  readonly #led = new Map<string, LedNode>();
  readonly #farewells: Farewells;
  readonly #leaving = new Set<Promise<void>>();
  #stop: () => Promise<void> = async () => {};
  #isFailing = false;

  constructor(app: AppContext, open: OpenRemoteNode) {
    this.#app = app;
    this.#open = open;
    this.#farewells = new Farewells(app, open);
  }

  /** Resolves when every node that there is has been taken up, or after `patienceMs`: then the server goes on without those. */
  async start(patienceMs: number): Promise<void> {
    await this.look();
    this.#stop = runEvery(LOOK_INTERVAL_MS, () => this.look());
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, patienceMs);
    await Promise.race([Promise.all([...this.#led.values()].map(({ taken }) => taken)), late]);
    clearTimeout(timer);
  }

  /** Compares what it is connected to with the rows. A failure changes nothing, and the log tells of the first of several. */
  async look(): Promise<void> {
    const { store, nodes, metrics, logger } = this.#app;
    try {
      const rows = await store.nodes.list();
      nodes.knowRegions(new Set(rows.flatMap(({ regions }) => regions)));
      const remote = rows.filter(
        ({ id, address, lostAtMs }) => id !== nodes.ownId && lostAtMs === null && parseNodeAddress(address) !== null,
      );
      const ids = new Set(remote.map(({ id }) => id));
      for (const id of this.#led.keys()) if (!ids.has(id)) this.#leave(id, "it was forgotten");
      for (const id of ids) if (!this.#led.has(id)) this.#lead(id);
      await this.#farewells.look();
      this.#isFailing = false;
    } catch (error) {
      metrics.countBackgroundError("node");
      if (!this.#isFailing) logger.error({ err: error }, "cannot look which nodes there are; it is tried again");
      this.#isFailing = true;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    for (const id of this.#led.keys()) this.#leave(id, "the server ends");
    await Promise.all(this.#leaving);
    await this.#farewells[Symbol.asyncDispose]();
  }

  #lead(id: string): void {
    const led = new LedNode(this.#app, id, this.#open, (error) => {
      // The next look begins anew, if the node is still there.
      if (this.#led.get(id) === led) this.#leave(id, error.message);
    });
    this.#led.set(id, led);
  }

  #leave(id: string, reason: string): void {
    const led = this.#led.get(id);
    if (led === undefined) return;
    this.#led.delete(id);
    this.#app.logger.info({ nodeId: id, reason }, "this server leaves a node");
    const leaving = led[Symbol.asyncDispose]().finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
  }
}
