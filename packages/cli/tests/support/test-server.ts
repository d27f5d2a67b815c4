import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { openServerLog } from "../../../../tests/support/server-log.ts";
import { type Environment, type Finished, runCaisson, startCaisson } from "./run-caisson.ts";

/** Lines of the server's log that a failure shows. */
const SHOWN_LINES = 5;

/** A server started by `caisson up`, in a directory that is removed with it. */
export class TestServer implements AsyncDisposable {
  readonly directory: string;
  readonly data: string;
  readonly readyLine: string;
  readonly environment: Environment;
  readonly endpoint: string;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #log: readonly string[];

  private constructor(
    directory: string,
    child: ChildProcessWithoutNullStreams,
    readyLine: string,
    endpoint: string,
    token: string,
    log: readonly string[],
  ) {
    this.directory = directory;
    this.data = join(directory, "data");
    this.readyLine = readyLine;
    this.endpoint = endpoint;
    this.environment = { HOME: directory, CAISSON_ENDPOINT: endpoint, CAISSON_TOKEN: token };
    this.#child = child;
    this.#log = log;
  }

  static async start(): Promise<TestServer> {
    const directory = await mkdtemp(join(tmpdir(), "caisson-cli-test-"));
    // Users of sandboxes are other users to the host, and must be able to pass the directory.
    await chmod(directory, 0o711);
    const data = join(directory, "data");
    const child = startCaisson(["up", "--data", data, "--listen", "127.0.0.1:0"], { HOME: directory });
    const log: string[] = [];
    const keep = openServerLog();
    createInterface({ input: child.stderr }).on("line", (line) => {
      log.push(line);
      keep(line);
    });
    const failed = once(child, "close").then(async ([code]) => {
      await rm(directory, { recursive: true, force: true });
      throw new Error(`caisson up ended with ${code}:\n${log.join("\n")}`);
    });
    const ready = once(createInterface({ input: child.stdout }), "line").then(([line]) => String(line));
    const readyLine = await Promise.race([ready, failed]);
    // From here on its end is awaited by whoever stops it.
    failed.catch(() => undefined);
    const { endpoint, token } = JSON.parse(await readFile(join(data, "credentials.json"), "utf8"));
    return new TestServer(directory, child, readyLine, endpoint, token, log);
  }

  /** Runs a command against this server. */
  run(words: readonly string[], input?: string | Uint8Array): Promise<Finished> {
    return runCaisson(words, this.environment, input);
  }

  /** Runs a command that must succeed, and returns what it printed, without the line end. */
  async succeed(...words: readonly string[]): Promise<string> {
    const { stdout, stderr, code } = await this.run(words);
    if (code !== 0)
      throw new Error(
        `caisson ${words.join(" ")} ended with ${code}:\n${stderr}\nThe server's log ends:\n${this.#log.slice(-SHOWN_LINES).join("\n")}`,
      );
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
