import { settleAll } from "@caisson/linux";
import { Network } from "./cluster/network.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./free-port.ts";
import { TestNodeProcess } from "./node-process.ts";

/** What a second server is to the one whose parts these are. */
interface Server {
  readonly endpoint: string;
  token: string;
  request(path: string, init?: { readonly method: string; readonly json: unknown }): Promise<Response>;
  start(): Promise<void>;
  stop(): Promise<unknown>;
  kill(): Promise<unknown>;
  logText(): string;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ClusterPartsOptions {
  /** Contents of caisson.toml of the test; what it says of the host is the nodes'. */
  readonly settings: string;
  /** As of a `TestNodeProcess`. */
  readonly hasPoolFile: boolean;
  /** Starts the second server. */
  readonly startServer: () => Promise<Server>;
}

/** Regions of nodes that a test has no word for. */
const FURTHER = ["fra", "sin"];
const CONNECTED_MS = 120_000;

/**
 * What an installation has beside the first server: a second one, three nodes, and in front of the servers what gives each its turn of the connections. The first node has the first region of the settings, the next ones have the
 * others, so that what a test mounts together lies together.
 */
export class ClusterParts {
  readonly #settings: string;
  readonly #hasPoolFile: boolean;
  readonly #startServer: () => Promise<Server>;
  #front: Network | null = null;
  #frontPort = 0;
  #second: Server | null = null;
  readonly #nodes: TestNodeProcess[] = [];

  constructor({ settings, hasPoolFile, startServer }: ClusterPartsOptions) {
    this.#settings = settings;
    this.#hasPoolFile = hasPoolFile;
    this.#startServer = startServer;
  }

  /** Where clients reach the installation. */
  get endpoint(): string {
    return `http://127.0.0.1:${this.#frontPort}`;
  }

  /** Starts everything, when the first server leads. */
  async start(first: Server): Promise<void> {
    if (this.#second === null) await this.#join(first);
    else {
      await this.#second.start();
      await settleAll(this.#nodes.map((node) => node.start()));
    }
    await eventually(
      "the nodes of the installation",
      async () => {
        const nodes = (await (await first.request("/api/v1/nodes")).json()) as { connected: boolean; run: string }[];
        return nodes.filter(({ connected, run }) => connected && run !== "").length === this.#nodes.length || null;
      },
      CONNECTED_MS,
    );
    this.#front ??= await Network.between(
      this.#frontPort,
      ...[first, this.#second as Server].map(({ endpoint }) => Number(new URL(endpoint).port)),
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()));
    await this.#second?.stop();
  }

  async kill(): Promise<void> {
    await Promise.all([this.#second?.kill(), ...this.#nodes.map((node) => node.kill())]);
  }

  /** What all of them wrote to standard error since they started. */
  logText(): string {
    return [this.#second, ...this.#nodes].map((part) => part?.logText() ?? "").join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#front?.[Symbol.asyncDispose]();
    await Promise.all(this.#nodes.map((node) => node[Symbol.asyncDispose]()));
    await this.#second?.[Symbol.asyncDispose]();
  }

  async #join(first: Server): Promise<void> {
    this.#frontPort = await freePort();
    this.#second = await this.#startServer();
    this.#second.token = first.token;
    const named = /^regions = \[(.*)\]$/m.exec(this.#settings)?.[1] ?? '"ord"';
    const [own = '"ord"', ...others] = named.split(",").map((text) => text.trim());
    const further = FURTHER.slice(others.length === 0 ? 0 : 1).map((text) => JSON.stringify(text));
    const regions = [own, ...(others.length === 0 ? [] : [others.join(", ")]), ...further];
    const settings = this.#settings.replace(/^regions = .*$/m, "");
    // When one fails, the others are whole first, so that they can be ended.
    await settleAll(
      regions.map(async (text, index) => {
        this.#nodes[index] = await TestNodeProcess.create({
          settings: `regions = [${text}]\n${settings}`,
          hasPoolFile: this.#hasPoolFile,
        });
      }),
    );
    await settleAll(
      this.#nodes.map(async (node) => {
        const answer = await first.request("/api/v1/nodes/tokens", { method: "POST", json: {} });
        await node.start(((await answer.json()) as { token: string }).token);
      }),
    );
  }
}

/** Settings of a server that others relay to: with an address for each kind of connection. */
export async function relayedSettings(settings: string): Promise<string> {
  const tables = ["expose", "ssh"].filter((table) => !settings.includes(`[${table}]`));
  const added = tables.map(async (table) => `[${table}]\nlisten = "127.0.0.1:${await freePort()}"\n`);
  return settings + (await Promise.all(added)).join("");
}
