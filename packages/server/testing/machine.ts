import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertNoLeaks } from "@caisson/linux/testing";
import { CaissonError } from "@caisson/model";
import type { Node, TakeNodeEvent } from "@caisson/node";
import { openTestNode, type TestNode, throughText } from "@caisson/node/testing";
import type { ShownCertificate } from "@caisson/node-link";
import type { NodeAddress } from "../src/app/nodes/node-address.ts";
import type { OpenRemoteNode, RemoteNode, RemoteNodeOptions } from "../src/app/nodes/remote-node.ts";

/** A machine with a node, in this process: what is asked of it goes through text, and it can be cut off, stand still, and start again. */
export class Machine implements AsyncDisposable {
  readonly id: string;
  readonly #directory: string;
  #host: TestNode | null = null;
  #options: RemoteNodeOptions | null = null;
  #isCut = false;
  /** Aborted when the connection is lost: no call goes on without an answer. */
  #connection = new AbortController();
  #runId = "";
  #begunRunId: string | null = null;
  /** What its latest run was told. */
  generation = 0;
  /** When its installation has forgotten it, as it was told. */
  forgottenAt: string | null = null;
  /** Runs of it that were told that they were shut out. */
  readonly expelled: string[] = [];
  /** Calls of these methods have no answer. */
  readonly hanging = new Set<keyof Node>();
  /** The names of the methods that were called, in order. */
  readonly calls: (keyof Node)[] = [];
  /** Of the certificate that it shows. Null: as if there were none. */
  certificate: ShownCertificate | null = null;
  /** How it takes a new certificate. */
  renewCertificate: RemoteNode["renewCertificate"] = async () => {
    throw new Error("this machine takes no certificate");
  };

  /** Where the server has tried to connect to it last. Null: as if that had not had the time to find out whether it can reach it. */
  triedAddress: NodeAddress | null;

  private constructor(id: string, directory: string) {
    this.id = id;
    this.triedAddress = { host: id, port: 8485 };
    this.#directory = directory;
  }

  static async boot(id: string): Promise<Machine> {
    const machine = new Machine(id, await mkdtemp(join(tmpdir(), "caisson-machine-")));
    await machine.start();
    return machine;
  }

  get host(): TestNode {
    if (this.#host === null) throw new Error(`machine ${this.id} is down`);
    return this.#host;
  }

  async start(): Promise<void> {
    const deliver: TakeNodeEvent = async (event) => {
      if (this.#problem() === null) await this.#options?.takeEvent(event);
    };
    this.#host = await openTestNode({ directory: this.#directory, deliver });
    await this.#connect();
  }

  /** Ends its node as a crash would, for all that others can see. */
  async stop(): Promise<void> {
    const host = this.#host;
    this.#host = null;
    this.#lose("it is down");
    if (host === null) return;
    for (const { id } of await host.node.listSandboxes()) await host.node.stopSandbox(id);
    await host[Symbol.asyncDispose]();
  }

  cut(): void {
    this.#isCut = true;
    this.#lose("the cable is cut");
  }

  async mend(): Promise<void> {
    this.#isCut = false;
    await this.#connect();
  }

  readonly open: OpenRemoteNode = (options) => {
    this.#options = options;
    this.#begunRunId = null;
    void this.#connect();
    const problem = () => this.#problem();
    const begin = (runId: string, generation: number) => {
      this.#begunRunId = runId;
      this.generation = generation;
    };
    const leave = async () => {
      this.#lose("the server leaves");
      if (this.#options === options) this.#options = null;
    };
    return new Proxy({} as RemoteNode, {
      get: (_, name) => {
        if (name === "problem") return problem();
        if (name === "triedAddress") return this.triedAddress;
        if (name === "isThere") return async () => problem() === null;
        if (name === "certificate") return problem() === null ? this.certificate : null;
        if (name === "renewCertificate") return this.renewCertificate;
        if (name === "begin") return begin;
        if (name === "dismiss")
          return async (forgottenAt: string) => {
            this.forgottenAt = forgottenAt;
          };
        if (name === "expel")
          return async (runId: string) => {
            this.expelled.push(runId);
          };
        if (name === Symbol.asyncDispose) return leave;
        if (name === "openAgent") return (id: string) => this.host.node.openAgent(id);
        return (...values: never[]) => this.#call(name as keyof Node, values);
      },
    });
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.#directory, { recursive: true });
    await assertNoLeaks({ directory: this.#directory });
  }

  #problem(): string | null {
    if (this.#host === null) return "it is down";
    return this.#isCut ? "the cable is cut" : null;
  }

  async #call(name: keyof Node, values: readonly never[]): Promise<unknown> {
    this.calls.push(name);
    const problem = this.#problem() ?? (this.#begunRunId === this.#runId ? null : "its run has not begun");
    if (problem !== null) throw this.#unavailable(problem);
    const answer = this.hanging.has(name)
      ? new Promise(() => {})
      : (throughText(this.host.node)[name] as (...values: readonly never[]) => Promise<unknown>)(...values);
    const { signal } = this.#connection;
    const lost = new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(this.#unavailable("it was lost")), { once: true });
    });
    return Promise.race([answer, lost]);
  }

  #unavailable(problem: string): CaissonError {
    return new CaissonError("NODE_UNAVAILABLE", `Node ${this.id} cannot be reached: ${problem}`);
  }

  #lose(reason: string): void {
    this.#connection.abort();
    this.#connection = new AbortController();
    this.#options?.onLost(reason);
  }

  async #connect(): Promise<void> {
    if (this.#options === null || this.#problem() !== null) return;
    const description = await this.host.node.describe();
    this.#runId = description.runId;
    this.#options.onConnected(description);
  }
}
