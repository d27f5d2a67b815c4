import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { assertNoLeaks, endChild, testTimeoutMs } from "@caisson/linux/testing";
import { DataPlace } from "./data-place.ts";
import { freePort } from "./free-port.ts";
import { openServerLog } from "./server-log.ts";

const root = join(import.meta.dirname, "../..");
const START_TIMEOUT_MS = testTimeoutMs(300_000);
const JOIN_ATTEMPTS = 3;

export interface TestNodeOptions {
  /** Contents of caisson.toml. */
  readonly settings?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Its pools need a pool file, as those with a size do. */
  readonly hasPoolFile?: boolean;
}

/** The process of a node in namespaces and with a data directory of its own, as on another machine. */
export class TestNodeProcess implements AsyncDisposable {
  readonly dataDirectory: string;
  readonly #place: DataPlace;
  readonly #env: Readonly<Record<string, string>>;
  /** Of 127.0.0.1, where the server reaches it. */
  #port: number;
  #process: ChildProcess | null = null;
  #output: string[] = [];
  /** What it was ready with last. */
  nodeId = "";

  private constructor(place: DataPlace, port: number, env: Readonly<Record<string, string>>) {
    this.dataDirectory = place.path;
    this.#place = place;
    this.#env = env;
    this.#port = port;
  }

  static async create({ settings = "", env = {}, hasPoolFile }: TestNodeOptions = {}): Promise<TestNodeProcess> {
    const node = new TestNodeProcess(await DataPlace.make("caisson-node-", hasPoolFile), await freePort(), env);
    await writeFile(join(node.dataDirectory, "caisson.toml"), settings);
    return node;
  }

  /** Rejects with what it said when it ends before it is ready. Before it has joined it can take another port where somebody has its own. */
  async start(joinToken?: string): Promise<void> {
    for (let attempt = 1; ; attempt += 1)
      try {
        await this.#start(joinToken);
        return;
      } catch (error) {
        const isTaken = this.logText().includes("another program listens there");
        if (!isTaken || joinToken === undefined || this.nodeId !== "" || attempt === JOIN_ATTEMPTS) throw error;
        this.#port = await freePort();
      }
  }

  async #start(joinToken?: string): Promise<void> {
    const joining = joinToken === undefined ? [] : ["--join", joinToken];
    const child = spawn(
      join(root, "scripts/isolate.sh"),
      [
        process.execPath,
        join(root, "packages/server/src/main.ts"),
        ...["serve", "--role", "node", "--data", this.dataDirectory, "--address", `127.0.0.1:${this.#port}`],
        ...joining,
      ],
      { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...this.#env } },
    );
    this.#process = child;
    this.#output = [];
    const keep = openServerLog();
    createInterface({ input: child.stderr }).on("line", (line) => {
      this.#output.push(line);
      keep(line);
    });
    const ready = Promise.withResolvers<string>();
    createInterface({ input: child.stdout }).on("line", (line) => {
      const id = /^Node (\S+) is ready at/.exec(line)?.[1];
      if (id !== undefined) ready.resolve(id);
    });
    child.once("close", (code) => ready.reject(new Error(`The node exited with ${code}:\n${this.logText()}`)));
    const timer = setTimeout(
      () => ready.reject(new Error(`The node is not ready:\n${this.logText()}`)),
      START_TIMEOUT_MS,
    );
    try {
      this.nodeId = await ready.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  logText(): string {
    return this.#output.join("\n");
  }

  get port(): number {
    return this.#port;
  }

  /** Takes another port at its next start, as a machine may have another address. */
  async move(): Promise<void> {
    this.#port = await freePort();
  }

  /** Of the program that gives the node's process its namespaces; null when it does not run. */
  get pid(): number | null {
    return this.isRunning ? (this.#process?.pid ?? null) : null;
  }

  get isRunning(): boolean {
    return this.#process !== null && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** What the names of its cgroups, network namespaces and interfaces begin with. */
  get instance(): string {
    return createHash("sha256").update(join(this.dataDirectory, "run")).digest("hex").slice(0, 10);
  }

  /** Resolves to its exit code when it has ended by itself. */
  async exited(): Promise<number | null> {
    const child = this.#process;
    if (child !== null && child.exitCode === null && child.signalCode === null) await once(child, "exit");
    return child?.exitCode ?? null;
  }

  stop(): Promise<number | null> {
    return this.#end("SIGTERM");
  }

  kill(): Promise<number | null> {
    return this.#end("SIGKILL");
  }

  /** Ends it, removes its data, and fails when anything of it is left on the host. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#place.remove();
    await assertNoLeaks({ directory: this.dataDirectory, instance: this.instance });
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process;
    this.#process = null;
    return child === null ? null : endChild(child, signal);
  }
}
