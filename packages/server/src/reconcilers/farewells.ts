import type { ForgottenNode } from "@caisson/database";
import { step } from "@caisson/linux";
import type { AppContext } from "../app/context.ts";
import { parseNodeAddress, requireNodeAddress } from "../app/nodes/node-address.ts";
import type { OpenRemoteNode, RemoteNode } from "../app/nodes/remote-node.ts";

/** A node that has not come back by then is not looked for any more. */
const LOOKED_FOR_MS = 30 * 86_400_000;

/** Tells nodes that were forgotten that they are, when they come back: they are connected to for nothing else. Once told, a node ends, and says at each start what its operator can do. */
export class Farewells implements AsyncDisposable {
  readonly #app: Pick<AppContext, "store" | "metrics" | "logger">;
  readonly #open: OpenRemoteNode;
  readonly #awaited = new Map<string, RemoteNode>();
  readonly #leaving = new Set<Promise<void>>();

  constructor(app: Pick<AppContext, "store" | "metrics" | "logger">, open: OpenRemoteNode) {
    this.#app = app;
    this.#open = open;
  }

  /** Compares whom it waits for with the rows. */
  async look(): Promise<void> {
    const sinceMs = Date.now() - LOOKED_FOR_MS;
    const forgotten = (await this.#app.store.nodes.listForgotten()).filter(
      ({ address, forgottenAtMs }) => forgottenAtMs > sinceMs && parseNodeAddress(address) !== null,
    );
    const ids = new Set(forgotten.map(({ id }) => id));
    for (const id of this.#awaited.keys()) if (!ids.has(id)) this.#leave(id);
    for (const node of forgotten) if (!this.#awaited.has(node.id)) this.#await(node);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of this.#awaited.keys()) this.#leave(id);
    await Promise.all(this.#leaving);
  }

  #await({ id, address, forgottenAtMs }: ForgottenNode): void {
    const remote = this.#open({
      nodeId: id,
      address: async () => requireNodeAddress(address),
      takeEvent: async () => {},
      onStopping: async () => {},
      onConnected: () => void this.#tell(id, remote, new Date(forgottenAtMs).toISOString()),
      onLost: () => {},
    });
    this.#awaited.set(id, remote);
  }

  /** A failure leaves it to the next connection, which the next look makes. Told twice is as well as once. */
  async #tell(id: string, remote: RemoteNode, forgottenAt: string): Promise<void> {
    const { store, metrics, logger } = this.#app;
    try {
      await remote.dismiss(forgottenAt);
      await step("node-farewell.commit", () => store.nodes.setTold(id));
      logger.warn({ nodeId: id }, "a node that was forgotten has come back, and was told so");
    } catch (error) {
      metrics.countBackgroundError("node");
      logger.error({ err: error, nodeId: id }, "cannot tell a node that it was forgotten; it is tried again");
    }
    if (this.#awaited.get(id) === remote) this.#leave(id);
  }

  #leave(id: string): void {
    const remote = this.#awaited.get(id);
    if (remote === undefined) return;
    this.#awaited.delete(id);
    const leaving = Promise.resolve(remote[Symbol.asyncDispose]()).finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
  }
}
