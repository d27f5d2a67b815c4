import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { assertNoLeaks, endChild, testTimeoutMs } from "@caisson/linux/testing";
import { ClusterParts, relayedSettings } from "./cluster-parts.ts";
import { DataPlace } from "./data-place.ts";
import { freePort } from "./free-port.ts";
import { openServerLog } from "./server-log.ts";
import { databaseSetting, testDeployment } from "./test-database.ts";

const root = join(import.meta.dirname, "../..");
/** A first start on a machine makes the built-in image. */
const START_TIMEOUT_MS = testTimeoutMs(300_000);

export interface TestServerOptions {
  /** Contents of caisson.toml. */
  readonly settings?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Default: a new one, removed at the end. */
  readonly dataDirectory?: string;
  /** Its pools need a pool file, as those with a size do. */
  readonly hasPoolFile?: boolean;
  /** Default: any free port of 127.0.0.1. */
  readonly listen?: string;
  /** `control`: without a node of its own, and without what that needs. Default: `all`. */
  readonly role?: "all" | "control";
  /** Another working tree, whose server it is. Default: this one. */
  readonly tree?: string;
}

/**
 * A real server in namespaces of its own, with a data directory of its own. Where CAISSON_TEST_DEPLOYMENT says `cluster`, one of a test that does not ask for a role or for a directory that it has is a whole installation: two servers,
 * whose connections take turns, and three nodes; it is stopped, killed and started as one.
 */
export class TestServer implements AsyncDisposable {
  readonly dataDirectory: string;
  readonly #place: DataPlace;
  readonly #env: Readonly<Record<string, string>>;
  readonly #listen: string;
  readonly #role: "all" | "control";
  readonly #tree: string;
  #settings = "";
  #process: ChildProcess | null = null;
  #output: string[] = [];
  #leading = Promise.withResolvers<string>();
  #parts: ClusterParts | null = null;
  endpoint = "";
  /** Since its process began. */
  hasLed = false;
  /** Empty while it stands by. */
  token = "";

  private constructor(
    place: DataPlace,
    { env = {}, listen = "127.0.0.1:0", role = "all", tree = root }: TestServerOptions,
  ) {
    this.dataDirectory = place.path;
    this.#place = place;
    this.#listen = listen;
    this.#role = role;
    this.#env = env;
    this.#tree = tree;
  }

  static async start(options: TestServerOptions = {}): Promise<TestServer> {
    const given = options.dataDirectory;
    const place =
      given === undefined ? await DataPlace.make("caisson-test-", options.hasPoolFile) : new DataPlace(given);
    const { role, listen, tree } = options;
    const isCluster = testDeployment() === "cluster" && (role ?? listen ?? tree ?? given) === undefined;
    const server = new TestServer(place, {
      ...options,
      ...(isCluster ? { role: "control", listen: `127.0.0.1:${await freePort()}` } : {}),
    });
    const settings = withWarmCount(withDeadlines(options.settings ?? ""));
    const isNamed = settings.startsWith("database = ");
    const database = isNamed ? "" : await databaseSetting();
    server.#settings = database + (isCluster ? await relayedSettings(settings) : settings);
    if (isCluster)
      server.#parts = new ClusterParts({
        settings,
        hasPoolFile: options.hasPoolFile ?? false,
        startServer: () => startSecond(database + settings),
      });
    await server.writeSettings();
    try {
      await server.start();
      return server;
    } catch (error) {
      if (given === undefined) await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the server calls its cgroups, rules and interfaces by. */
  get instance(): string {
    return createHash("sha256").update(join(this.dataDirectory, "run")).digest("hex").slice(0, 10);
  }

  /** Writes the settings that the server began with, and these tables after them, for its next start. */
  async writeSettings(more = ""): Promise<void> {
    const settings = this.#settings + more;
    if (settings !== "") await writeFile(join(this.dataDirectory, "caisson.toml"), settings);
    else await rm(join(this.dataDirectory, "caisson.toml"), { force: true });
  }

  /** Starts it again after `stop` or `kill`, on the same data. */
  async start(): Promise<void> {
    await this.#startProcess();
    await this.#parts?.start(this);
    if (this.#parts !== null) this.endpoint = this.#parts.endpoint;
  }

  async #startProcess(): Promise<void> {
    const isolate = this.#role === "control" ? [] : [join(this.#tree, "scripts/isolate.sh")];
    const [program = "", ...command] = [...isolate, process.execPath];
    const child = spawn(
      program,
      [
        ...command,
        join(this.#tree, "packages/server/src/main.ts"),
        "serve",
        ...(this.#role === "all" ? [] : ["--role", this.#role]),
        "--data",
        this.dataDirectory,
        "--listen",
        this.#listen,
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
    const ready = Promise.withResolvers<string | null>();
    const leading = Promise.withResolvers<string>();
    this.#leading = leading;
    this.hasLed = false;
    leading.promise.then((endpoint) => {
      this.hasLed = true;
      ready.resolve(endpoint);
    }, ready.reject);
    createInterface({ input: child.stdout }).on("line", (line) => {
      const endpoint = /^Caisson is ready at (\S+)/.exec(line)?.[1];
      if (endpoint !== undefined) leading.resolve(endpoint);
      if (line.startsWith("Caisson stands by at ")) ready.resolve(null);
    });
    child.once("exit", (code) =>
      leading.reject(new Error(`The server exited with ${code} before it was ready:\n${this.logText()}`)),
    );
    const timer = setTimeout(
      () => ready.reject(new Error(`The server is not ready after ${START_TIMEOUT_MS} ms:\n${this.logText()}`)),
      START_TIMEOUT_MS,
    );
    let endpoint: string | null;
    try {
      endpoint = await ready.promise;
    } finally {
      clearTimeout(timer);
    }
    this.endpoint = endpoint ?? `http://${this.#listen}`;
    if (endpoint !== null) await this.#readToken();
  }

  /** Resolves when a server that stood by leads. */
  async leads(): Promise<void> {
    await this.#leading.promise;
    await this.#readToken();
  }

  /** To its process alone. */
  signal(name: NodeJS.Signals): void {
    this.#process?.kill(name);
  }

  async #readToken(): Promise<void> {
    this.token = JSON.parse(await readFile(join(this.dataDirectory, "credentials.json"), "utf8")).token;
  }

  /** Ends the server as a service manager would, and waits for it. */
  async stop(): Promise<number | null> {
    await this.#parts?.stop();
    return this.#end("SIGTERM");
  }

  /** Ends the server at whatever instruction it is, and waits until the kernel has taken its namespaces down. */
  async kill(): Promise<number | null> {
    const [code] = await Promise.all([this.#end("SIGKILL"), this.#parts?.kill()]);
    return code;
  }

  /** Starts again with no data at all. */
  async reset(): Promise<void> {
    await this.stop();
    for (const name of await readdir(this.dataDirectory)) await rm(join(this.dataDirectory, name), { recursive: true });
    this.#settings = await databaseSetting();
    await this.writeSettings();
    await this.start();
  }

  /** Resolves when the server has ended by itself, for example at a planned fault. */
  async exited(): Promise<void> {
    if (this.#process !== null && this.#process.exitCode === null && this.#process.signalCode === null)
      await once(this.#process, "exit");
  }

  get isRunning(): boolean {
    return this.#process !== null && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** What the server wrote to standard error since it started. */
  logText(): string {
    return [...this.#output, this.#parts?.logText() ?? ""].join("\n");
  }

  /** Environment for a client's process. */
  clientEnv(): Record<string, string> {
    return { DENO_DEPLOY_TOKEN: this.token, DENO_DEPLOY_ENDPOINT: this.endpoint, DENO_SANDBOX_ENDPOINT: this.endpoint };
  }

  /** A REST call with the server's token. */
  request(path: string, init: RequestInit & { readonly json?: unknown } = {}): Promise<Response> {
    const { json, ...rest } = init;
    return fetch(new URL(path, this.endpoint), {
      ...rest,
      headers: {
        authorization: `Bearer ${this.token}`,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...init.headers,
      },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    });
  }

  /** Ends the server, removes its data, and fails when anything of it is left on the host. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts?.[Symbol.asyncDispose]();
    await this.#end("SIGTERM");
    await this.#place.remove();
    await assertNoLeaks({
      directory: this.dataDirectory,
      instance: this.instance,
    });
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process;
    if (child === null) return null;
    const code = await endChild(child, signal);
    this.#process = null;
    return code;
  }
}

/** Of the same installation as one that runs. */
async function startSecond(settings: string): Promise<TestServer> {
  return TestServer.start({
    role: "control",
    listen: `127.0.0.1:${await freePort()}`,
    settings: await relayedSettings(settings),
  });
}

/** The settings; where deadlines are multiplied, so are the server's own for the start of a sandbox and its end. */
function withDeadlines(settings: string): string {
  const [start, stop] = [testTimeoutMs(45_000) / 1000, Math.min(60, testTimeoutMs(2_000) / 1000)];
  if (start === 45) return settings;
  const started = withSandboxSetting(settings, `start_timeout_seconds = ${start}`);
  return settings.includes("stop_grace_seconds")
    ? started
    : withSandboxSetting(started, `stop_grace_seconds = ${stop}`);
}

/** With `CAISSON_TEST_WARM=0` every sandbox starts cold, unless a test says otherwise; other numbers are the containers that wait. */
function withWarmCount(settings: string): string {
  const count = process.env.CAISSON_TEST_WARM;
  if (count === undefined || settings.includes("warm_sandboxes")) return settings;
  return withSandboxSetting(settings, `warm_sandboxes = ${count}`);
}

function withSandboxSetting(settings: string, line: string): string {
  const table = "[sandboxes]\n";
  return settings.includes(table) ? settings.replace(table, `${table}${line}\n`) : `${settings}${table}${line}\n`;
}
