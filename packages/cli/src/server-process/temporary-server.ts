import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { type Credentials, readCredentials } from "./credentials.ts";
import { PATHS } from "./paths.ts";

/** A server that does not end within this time is killed; the kernel then clears away everything that it made. */
const STOP_TIMEOUT_MS = 30_000;
/** Lines of the server's log that are shown when it fails. */
const SHOWN_LINES = 8;

/** How far the server is with making the image. */
export interface ImageProgress {
  readonly phase: string;
  /** From 0 to 1. */
  readonly fraction: number;
  readonly message: string;
}

/**
 * A server of one's own, in a temporary data directory and on a free port. Disposing of it stops it and removes the directory. It also
 * stops when this process dies without doing so.
 */
export class TemporaryServer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #directory: string;
  readonly #exited: Promise<unknown>;
  readonly #log: string[] = [];
  readonly #image = Promise.withResolvers<void>();
  readonly #firstLine: Promise<unknown>;

  private constructor(directory: string, onProgress: (progress: ImageProgress) => void) {
    this.#directory = directory;
    const serve = [process.execPath, PATHS.server, "serve", "--data", directory, "--listen", "127.0.0.1:0"];
    // In a session of its own: Ctrl-C reaches this process only, which then stops the server in order.
    this.#child = spawn("setpriv", ["--pdeathsig", "TERM", "--", PATHS.isolate, ...serve], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    this.#exited = once(this.#child, "close").catch(() => undefined);
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) throw new TypeError("The server has no outputs");
    this.#firstLine = once(createInterface({ input: stdout }), "line");
    createInterface({ input: stderr }).on("line", (line) => this.#onLogLine(line, onProgress));
  }

  /** Starts the server. `onProgress` is called while it makes the image, which takes minutes the first time. */
  static async start(onProgress: (progress: ImageProgress) => void): Promise<TemporaryServer> {
    return new TemporaryServer(await mkdtemp(join(tmpdir(), "caisson-quickstart-")), onProgress);
  }

  /** Resolves when the server has the image, made just now or found in the cache. */
  async hasImage(signal: AbortSignal): Promise<void> {
    await this.#orFailure(this.#image.promise, signal);
  }

  /** Resolves when the server accepts requests. */
  async ready(signal: AbortSignal): Promise<Credentials> {
    await this.#orFailure(this.#firstLine, signal);
    return await readCredentials(this.#directory);
  }

  /** Waits for the event; throws when the server ends before it, or the signal is aborted. */
  async #orFailure(event: Promise<unknown>, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise: aborted, resolve } = Promise.withResolvers<"aborted">();
    const onAbort = (): void => resolve("aborted");
    signal.addEventListener("abort", onAbort);
    const outcome = await Promise.race([event.then(() => "done"), this.#exited.then(() => "ended"), aborted]);
    signal.removeEventListener("abort", onAbort);
    signal.throwIfAborted();
    if (outcome === "done") return;
    const shown = this.#log.slice(-SHOWN_LINES).join("\n");
    const hint = "`caisson doctor` checks this host.";
    throw new CliError("SERVER_FAILED", EXIT.failure, `The server did not start:\n${shown}`, hint);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#stop();
    } finally {
      await rm(this.#directory, { recursive: true, force: true });
    }
  }

  async #stop(): Promise<void> {
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  #onLogLine(line: string, onProgress: (progress: ImageProgress) => void): void {
    const entry = parseLogLine(line);
    this.#log.push(entry.text);
    if (entry.progress?.phase === "done") this.#image.resolve();
    else if (entry.progress !== null) onProgress(entry.progress);
  }
}

/** The server logs one JSON object a line; other programs may write plain text. */
function parseLogLine(line: string): { readonly text: string; readonly progress: ImageProgress | null } {
  try {
    const { msg, progress } = JSON.parse(line) as { readonly msg?: unknown; readonly progress?: ImageProgress };
    return { text: typeof msg === "string" ? msg : line, progress: progress ?? null };
  } catch {
    return { text: line, progress: null };
  }
}
