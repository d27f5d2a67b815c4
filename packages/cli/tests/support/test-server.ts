import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Environment, type Finished, runCaisson, startCaisson } from "./run-caisson.ts";

/** A server started by `caisson up`, in a directory that is removed with it. */
export class TestServer implements AsyncDisposable {
  readonly directory: string;
  readonly data: string;
  readonly readyLine: string;
  readonly environment: Environment;
  readonly endpoint: string;
  readonly #child: ChildProcessWithoutNullStreams;

  private constructor(
    directory: string,
    child: ChildProcessWithoutNullStreams,
    readyLine: string,
    endpoint: string,
    token: string,
  ) {
    this.directory = directory;
    this.data = join(directory, "data");
    this.readyLine = readyLine;
    this.endpoint = endpoint;
    this.environment = { HOME: directory, CAISSON_ENDPOINT: endpoint, CAISSON_TOKEN: token };
    this.#child = child;
  }

  static async start(): Promise<TestServer> {
    const directory = await mkdtemp(join(tmpdir(), "caisson-cli-test-"));
    // Users of sandboxes are other users to the host, and must be able to pass the directory.
    await chmod(directory, 0o711);
    const data = join(directory, "data");
    const child = startCaisson(["up", "--data", data, "--listen", "127.0.0.1:0"], { HOME: directory });
    let log = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      log += text;
    });
    const readyLine = await Promise.race([
      once(createInterface({ input: child.stdout }), "line").then(([line]) => String(line)),
      once(child, "close").then(([code]) => Promise.reject(new Error(`caisson up ended with ${code}:\n${log}`))),
    ]);
    const { endpoint, token } = JSON.parse(await readFile(join(data, "credentials.json"), "utf8"));
    return new TestServer(directory, child, readyLine, endpoint, token);
  }

  /** Runs a command against this server. */
  run(words: readonly string[], input?: string | Uint8Array): Promise<Finished> {
    return runCaisson(words, this.environment, input);
  }

  /** Runs a command that must succeed, and returns what it printed, without the line end. */
  async succeed(...words: readonly string[]): Promise<string> {
    const { stdout, stderr, code } = await this.run(words);
    if (code !== 0) throw new Error(`caisson ${words.join(" ")} ended with ${code}:\n${stderr}`);
    return stdout.trimEnd();
  }

  /** Ends the server with SIGTERM and returns its exit code. */
  async stop(): Promise<number | null> {
    if (this.#child.exitCode !== null) return this.#child.exitCode;
    this.#child.kill("SIGTERM");
    const [code] = await once(this.#child, "close");
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}
