import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { PostgresServer } from "@caisson/database/testing";
import { settleAll } from "@caisson/linux";
import { TestClient } from "../client.ts";
import { eventually } from "../eventually.ts";
import { freePort } from "../free-port.ts";
import { TestNodeProcess } from "../node-process.ts";
import { TestServer } from "../server.ts";
import { Network } from "./network.ts";

const RESTART_PAUSE_MS = 200;
const READY_MS = 120_000;
const MOVED_CLOCK = join(import.meta.dirname, "moved-clock.ts");

/** A machine of the fleet: what runs there, the piece of network that it depends on, and its clock. */
interface Machine {
  readonly name: string;
  /** A server: between it and the database. A node: between the servers and it. */
  readonly network: Network;
  /** By how many milliseconds its clock is off, from now on. */
  moveClock(offsetMs: number): Promise<void>;
  /** Keeps its process from being started again, until `release`. */
  holdDown(): void;
  release(): void;
}

interface Clock {
  readonly env: Readonly<Record<string, string>>;
  readonly move: (offsetMs: number) => Promise<void>;
}

export interface ServerMachine extends Machine {
  readonly process: TestServer;
}

export interface NodeMachine extends Machine {
  readonly process: TestNodeProcess;
  /** Which it alone has, so that a test decides what lies on it. */
  readonly region: string;
}

export interface FleetOptions {
  /** Number of servers. Default: 2. */
  readonly servers?: number;
  /** One node for each. */
  readonly regions: readonly string[];
  /** Of every node, after `regions`. */
  readonly nodeSettings?: string;
  /** Of every server, after what it needs. */
  readonly serverSettings?: string;
}

/**
 * An installation of several machines, each a process on this one: servers of which one leads, nodes with pools of their own, PostgreSQL, and a network between them that can be cut. What ends is started
 * again, as a service manager does, unless it is held down.
 */
export class Fleet implements AsyncDisposable {
  readonly servers: ServerMachine[] = [];
  readonly nodes: NodeMachine[] = [];
  readonly postgres: PostgresServer;
  readonly database: string;
  readonly #resources = new AsyncDisposableStack();
  readonly #down = new Set<Machine["name"]>();
  #supervised: readonly Promise<void>[] = [];
  #isClosing = false;
  token = "";

  private constructor(postgres: PostgresServer, url: string) {
    this.postgres = this.#resources.use(postgres);
    this.database = new URL(url).pathname.slice(1);
  }

  static async start({ servers = 2, regions, nodeSettings = "", serverSettings = "" }: FleetOptions): Promise<Fleet> {
    const postgres = await PostgresServer.start();
    const fleet = new Fleet(postgres, await postgres.createDatabase());
    try {
      for (let index = 0; index < servers; index += 1) await fleet.#addServer(`server-${index + 1}`, serverSettings);
      // When one fails, the others are whole first, so that they can be ended.
      await settleAll(regions.map((region, index) => fleet.#addNode(`node-${index + 1}`, region, nodeSettings)));
      fleet.nodes.sort((a, b) => (a.name < b.name ? -1 : 1));
      await fleet.untilReady();
      fleet.#superviseAll();
      return fleet;
    } catch (error) {
      await fleet[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    for (const { network } of [...this.servers, ...this.nodes]) network.heal();
    await Promise.all(this.#supervised);
    // While there is a server that ends their sandboxes.
    await Promise.all(this.nodes.map(({ process }) => process.stop()));
    await this.#resources.disposeAsync();
  }

  /** The server that leads, or led last, as the database says. */
  async leader(): Promise<ServerMachine> {
    const [row] = await this.rows<{ data_directory: string }>("SELECT data_directory FROM installation");
    const leader = this.servers.find(({ process }) => process.dataDirectory === row?.data_directory);
    if (leader === undefined) throw new Error(`${row?.data_directory} leads, which is none of the servers`);
    return leader;
  }

  /** Another one than leads. */
  async standby(): Promise<ServerMachine> {
    const leader = await this.leader();
    const standby = this.servers.find((server) => server !== leader);
    if (standby === undefined) throw new Error("There is one server only");
    return standby;
  }

  clientOf({ process }: ServerMachine): TestClient {
    process.token = this.token;
    return new TestClient(process);
  }

  /** Runs a statement on the rows of the installation. */
  rows<T>(sql: string): Promise<readonly T[]> {
    return this.postgres.query(sql, this.database) as Promise<readonly T[]>;
  }

  /** Until each server answers, and each node is connected to the one that leads, and was taken up by it. */
  async untilReady(deadlineMs = READY_MS): Promise<void> {
    for (const server of this.servers)
      await eventually(
        `that all nodes are live, as ${server.name} tells`,
        async () => {
          const nodes = await this.#shownNodes(server).catch(() => []);
          return nodes.length === this.nodes.length && nodes.every(({ connected, run }) => connected && run !== "")
            ? true
            : null;
        },
        deadlineMs,
      );
  }

  #shownNodes(server: ServerMachine): Promise<readonly { connected: boolean; run: string }[]> {
    return this.clientOf(server).rest("GET", "/api/v1/nodes", undefined);
  }

  async #addServer(name: string, settings: string): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), "caisson-net-"));
    this.#resources.defer(() => rm(directory, { recursive: true, force: true }));
    const socket = ".s.PGSQL.5432";
    const network = await Network.between(join(directory, socket), join(this.postgres.directory, socket));
    this.#resources.use(network);
    const [listen, previews, ssh] = [await freePort(), await freePort(), await freePort()];
    const clock = await this.#clock();
    const process = await TestServer.start({
      role: "control",
      listen: `127.0.0.1:${listen}`,
      env: clock.env,
      settings: [
        `database = ${JSON.stringify(this.postgres.url(this.database).replace(this.postgres.directory, directory))}`,
        `[expose]\nlisten = "127.0.0.1:${previews}"`,
        `[ssh]\nlisten = "127.0.0.1:${ssh}"\n`,
        settings,
      ].join("\n"),
    });
    this.#resources.use(process);
    if (process.token !== "") this.token = process.token;
    this.servers.push({ name, network, process, ...this.#controls(name, clock) });
  }

  async #addNode(name: string, region: string, settings: string): Promise<void> {
    const clock = await this.#clock();
    const process = await TestNodeProcess.create({
      settings: `regions = ["${region}"]\n${settings}`,
      env: clock.env,
      hasPoolFile: true,
    });
    this.#resources.use(process);
    const [first] = this.servers;
    if (first === undefined) throw new Error("A node joins a server");
    const { token } = await this.clientOf(first).rest<{ token: string }>("POST", "/api/v1/nodes/tokens", {});
    await process.start(token);
    // The servers reach it over the network that can be cut, as they would reach one behind a translation of addresses.
    const port = await freePort();
    const network = this.#resources.use(await Network.between(port, process.port));
    await this.clientOf(first).rest("PATCH", `/api/v1/nodes/${process.nodeId}`, { address: `127.0.0.1:${port}` });
    await process.kill();
    await process.start();
    this.nodes.push({ name, network, process, region, ...this.#controls(name, clock) });
  }

  #controls(name: string, { move }: Clock): Pick<Machine, "moveClock" | "holdDown" | "release"> {
    return { moveClock: move, holdDown: () => this.#down.add(name), release: () => this.#down.delete(name) };
  }

  async #clock(): Promise<Clock> {
    const directory = await mkdtemp(join(tmpdir(), "caisson-clock-"));
    this.#resources.defer(() => rm(directory, { recursive: true, force: true }));
    const path = join(directory, "offset");
    return {
      env: { CAISSON_TEST_CLOCK: path, NODE_OPTIONS: `--import=${MOVED_CLOCK}` },
      move: (offsetMs) => writeFile(path, String(offsetMs)),
    };
  }

  #superviseAll(): void {
    this.#supervised = [...this.servers, ...this.nodes].map((machine) => this.#supervise(machine));
  }

  async #supervise(machine: ServerMachine | NodeMachine): Promise<void> {
    while (!this.#isClosing) {
      if (machine.process.isRunning || this.#down.has(machine.name)) {
        await delay(RESTART_PAUSE_MS / 4);
        continue;
      }
      await delay(RESTART_PAUSE_MS);
      // One that cannot start, because the database is away, is started again.
      if (!this.#isClosing) await machine.process.start().catch(() => {});
    }
  }
}
