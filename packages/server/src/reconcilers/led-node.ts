import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { Disk, NodeRecord } from "@caisson/database";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { NodeDescription } from "@caisson/node";
import type { AppContext } from "../app/context.ts";
import { takeNodeEvent } from "../app/node-event.ts";
import { requireNodeAddress } from "../app/nodes/node-address.ts";
import { beginNode } from "../app/nodes/node-begin.ts";
import { type ConnectedNode, connectedNode } from "../app/nodes/node-directory.ts";
import type { OpenRemoteNode, RemoteNode } from "../app/nodes/remote-node.ts";
import { adoptSandboxes } from "../app/sandboxes/sandbox-adopt.ts";
import { endSandbox } from "../app/sandboxes/sandbox-end.ts";
import { CertificateRenewals } from "./certificate-renewal.ts";
import { LEASE_MS, NodeLease } from "./node-lease.ts";
import { startNodeJobs } from "./periodic.ts";
import { recover } from "./recover.ts";

const RETRY_MS = 1_000;

/**
 * What this server does with a node on another machine. Each time that a connection stands: its run begins, which is its next generation unless it has begun already; then it can be used, its lease
 * and its certificate are renewed and its jobs run; what earlier runs and servers left is settled, and its sandboxes are taken up. When the connection is lost, all that stops until the next one.
 *
 * All of it waits for this node alone, and what fails is tried again while the connection stands.
 */
export class LedNode implements AsyncDisposable {
  readonly #app: AppContext;
  readonly #nodeId: string;
  readonly #remote: RemoteNode;
  readonly #onReplaced: (error: Error) => void;
  readonly #closing = new AbortController();
  readonly #taken = Promise.withResolvers<true>();
  /** Of the connection that stands. */
  #connection = new AbortController();
  #begunRunId: string | null = null;
  /** Disks that a server before this one was at, maybe in a run of the node that goes on. Null: not known yet. */
  #left: readonly Disk[] | null = null;
  #work: Promise<void> = Promise.resolve();

  /** `onReplaced`: a later run of the node has begun, or it was forgotten, or the authority of its certificate was retired. */
  constructor(app: AppContext, nodeId: string, open: OpenRemoteNode, onReplaced: (error: Error) => void) {
    this.#app = app;
    this.#nodeId = nodeId;
    this.#onReplaced = onReplaced;
    this.#remote = open({
      nodeId,
      address: async () => requireNodeAddress((await this.#row()).address),
      takeEvent: (event) => takeNodeEvent(app, nodeId, event),
      onStopping: () => this.#endSandboxes(),
      onConnected: (description) => this.#onConnected(description),
      onLost: () => this.#connection.abort(),
    });
    app.nodes.expect(nodeId, this.#remote);
  }

  /** Resolves when the node was taken up for the first time. */
  get taken(): Promise<true> {
    return this.#taken.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#app.nodes.forget(this.#nodeId);
    // Calls that are under way fail, so that nothing waits for them.
    await this.#remote[Symbol.asyncDispose]();
    await this.#work;
  }

  async #endSandboxes(): Promise<void> {
    const all = this.#app.live.all().filter(({ record }) => record.owner.nodeId === this.#nodeId);
    await Promise.all(all.map((live) => endSandbox(this.#app, live, "server-stopped")));
  }

  #onConnected(description: NodeDescription): void {
    this.#connection.abort();
    this.#connection = new AbortController();
    const signal = AbortSignal.any([this.#connection.signal, this.#closing.signal]);
    // What is left of the last connection ends before.
    this.#work = this.#work.then(() => this.#lead(description, signal));
  }

  async #row(): Promise<NodeRecord> {
    const row = await this.#app.store.nodes.get(this.#nodeId);
    if (row !== null) return row;
    throw new CaissonError("NODE_NOT_FOUND", "it was forgotten");
  }

  /** Until the connection is lost. Never rejects. */
  async #lead(description: NodeDescription, signal: AbortSignal): Promise<void> {
    const app = this.#app;
    await using undo = new AsyncDisposableStack();
    const connected = await this.#untilDone(signal, () => this.#begin(description));
    if (connected === null) return;
    // Before this server can begin anything there itself.
    this.#left ??= await this.#untilDone(signal, () => this.#unsettled(connected));
    const left = this.#left;
    if (left === null || signal.aborted) return;
    undo.defer(new NodeLease(app, connected, this.#onReplaced).start());
    undo.defer(startNodeJobs(app, connected));
    undo.defer(new CertificateRenewals(app, this.#nodeId, this.#remote, this.#onReplaced).start());
    app.nodes.add(connected);
    undo.defer(() => app.nodes.remove(connected));
    const isTaken = await this.#untilDone(signal, async () => {
      await recover(app, connected, "node-lost", signal, left);
      await adoptSandboxes(app, connected);
      await connected.node.prepare();
      return true;
    });
    if (isTaken !== null) this.#taken.resolve(true);
    if (!signal.aborted) await once(signal, "abort");
  }

  async #begin(description: NodeDescription): Promise<ConnectedNode> {
    const node = { id: this.#nodeId, address: null, description };
    const { generation } = await beginNode(this.#app, node, LEASE_MS).catch((error: unknown) =>
      this.#expelIfShutOut(description.runId, error),
    );
    if (this.#begunRunId !== description.runId) this.#remote.begin(description.runId, generation);
    this.#begunRunId = description.runId;
    return connectedNode({ nodeId: this.#nodeId, generation }, this.#remote, description);
  }

  /** A run from which another node has taken over what it had is told to end. It throws why it cannot begin, in any case. */
  async #expelIfShutOut(runId: string, error: unknown): Promise<never> {
    const row = await this.#row();
    if (row.isShutOut && row.runId === runId) {
      this.#app.logger.warn(
        { nodeId: this.#nodeId },
        "a run of a node that was shut out has come back, and is told to end",
      );
      await step("node-expel.tell", () => this.#remote.expel(runId));
    }
    throw error;
  }

  /** Those of the run that has begun too. */
  #unsettled({ owner: { nodeId, generation } }: ConnectedNode): Promise<readonly Disk[]> {
    return this.#app.store.disks.listUnsettled({ nodeId, generation: generation + 1 });
  }

  /** Null: the connection was lost before. */
  async #untilDone<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T | null> {
    while (!signal.aborted) {
      try {
        return await attempt();
      } catch (error) {
        if (signal.aborted) break;
        this.#app.metrics.countBackgroundError("node");
        this.#app.logger.error({ err: error, nodeId: this.#nodeId }, "cannot take up a node; it is tried again");
        await delay(RETRY_MS, undefined, { signal }).catch(() => {});
      }
    }
    return null;
  }
}
