import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises";
import { request } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buildAgent } from "../build.ts";

const START_TIMEOUT_MS = 20_000;

/** The Deno program that the workspace installs. */
export const DENO_PATH = join(dirname(createRequire(import.meta.url).resolve("deno/package.json")), "deno");

/** Flags that the agent is started with everywhere: nothing is looked up, fetched or asked for. */
export const DENO_FLAGS = [
  "run",
  "--allow-all",
  "--no-config",
  "--no-lock",
  "--no-remote",
  "--no-npm",
  "--no-prompt",
  // As in a sandbox with the least memory that there is.
  "--v8-flags=--max-old-space-size=256,--enable-experimental-regexp-engine-on-excessive-backtracks",
] as const;

export interface TestAgentOptions {
  /** Added to the sandbox environment of the agent. */
  readonly env?: Readonly<Record<string, string>>;
  /** Words before the command, for example a wrapper that limits it. */
  readonly prefix?: readonly string[];
}

/** An agent on this host, without a sandbox, in a directory of its own that goes when it is disposed. */
export class TestAgent implements AsyncDisposable {
  readonly directory: string;
  readonly home: string;
  readonly socketPath: string;
  readonly process: ChildProcess;
  readonly #output: string[] = [];

  private constructor(directory: string, process: ChildProcess) {
    this.directory = directory;
    this.home = join(directory, "home");
    this.socketPath = join(directory, "agent.sock");
    this.process = process;
    for (const stream of [process.stdout, process.stderr])
      stream?.on("data", (data) => this.#output.push(String(data)));
  }

  static async start(options: TestAgentOptions = {}): Promise<TestAgent> {
    const { path } = await buildAgent();
    const directory = await realpath(await mkdtemp(join(tmpdir(), "caisson-agent-")));
    const home = join(directory, "home");
    await mkdir(home);
    const command = [...(options.prefix ?? []), DENO_PATH, ...DENO_FLAGS, path];
    const child = spawn(command[0] ?? "", command.slice(1), {
      env: {
        PATH: process.env.PATH,
        HOME: home,
        LANG: "C.UTF-8",
        DENO_NO_UPDATE_CHECK: "1",
        DENO_DIR: join(directory, "deno"),
        CAISSON_AGENT_SOCKET: join(directory, "agent.sock"),
        CAISSON_AGENT_DENO: DENO_PATH,
        ...options.env,
      },
      cwd: home,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const agent = new TestAgent(directory, child);
    await agent.#ready();
    return agent;
  }

  /** What the agent itself printed. */
  get output(): string {
    return this.#output.join("");
  }

  /** One HTTP request to the agent: its status and body. */
  async http(method: string, path: string): Promise<{ readonly status: number; readonly body: string }> {
    const outgoing = request({ socketPath: this.socketPath, method, path }).end();
    const [response] = await once(outgoing, "response");
    const chunks: string[] = [];
    for await (const chunk of response) chunks.push(String(chunk));
    return { status: response.statusCode, body: chunks.join("") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill("SIGKILL");
      await once(this.process, "exit");
    }
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline && this.process.exitCode === null) {
      try {
        if ((await this.http("GET", "/health")).status === 200) return;
      } catch {
        // Not listening yet.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    await this[Symbol.asyncDispose]();
    throw new Error(`The agent did not start:\n${this.output}`);
  }
}
