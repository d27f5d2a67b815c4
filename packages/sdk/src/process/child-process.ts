import process from "node:process";
import type { ProcessStatus, SpawnResult } from "@caisson/protocol";
import type { Bytes } from "../internal/bytes.ts";
import type { Connection } from "../internal/connection.ts";
import { collect, drainInto } from "../internal/streams.ts";

/** Signals that can be sent to a process. */
export type Signal =
  | "SIGABRT"
  | "SIGALRM"
  | "SIGBREAK"
  | "SIGBUS"
  | "SIGCHLD"
  | "SIGCONT"
  | "SIGEMT"
  | "SIGFPE"
  | "SIGHUP"
  | "SIGILL"
  | "SIGINFO"
  | "SIGINT"
  | "SIGIO"
  | "SIGPOLL"
  | "SIGUNUSED"
  | "SIGKILL"
  | "SIGPIPE"
  | "SIGPROF"
  | "SIGPWR"
  | "SIGQUIT"
  | "SIGSEGV"
  | "SIGSTKFLT"
  | "SIGSTOP"
  | "SIGSYS"
  | "SIGTERM"
  | "SIGTRAP"
  | "SIGTSTP"
  | "SIGTTIN"
  | "SIGTTOU"
  | "SIGURG"
  | "SIGUSR1"
  | "SIGUSR2"
  | "SIGVTALRM"
  | "SIGWINCH"
  | "SIGXCPU"
  | "SIGXFSZ";

/** How a process ended. */
export interface ChildProcessStatus {
  /** Whether the exit code is zero. */
  success: boolean;
  /** The exit code; 128 plus the signal's number when a signal ended the process. */
  code: number;
  /** The signal that ended the process, or `null` when it exited by itself. */
  signal: Signal | null;
  /** Whether the sandbox ran out of memory and the process or a child of it was killed for that. Only with the code 137. */
  oom: boolean;
}

/** What {@linkcode ChildProcess.output} collects. Outputs that were not piped are `null`. */
export interface ChildProcessOutput {
  /** How the process ended. */
  status: ChildProcessStatus;
  /** Everything written to standard output. */
  readonly stdout: Bytes | null;
  /** Everything written to standard error. */
  readonly stderr: Bytes | null;
  /** {@linkcode stdout} as UTF-8 text. */
  readonly stdoutText: string | null;
  /** {@linkcode stderr} as UTF-8 text. */
  readonly stderrText: string | null;
}

/** What becomes of an output: a stream to read, this process's own output, or nothing. */
export type OutputMode = "piped" | "inherit" | "null";

/** What a process object is made from. */
export interface ChildProcessInit {
  readonly connection: Connection;
  readonly result: Pick<SpawnResult, "pid" | "stdoutStreamId" | "stderrStreamId">;
  readonly stdin: WritableStream<Uint8Array> | null;
  readonly stdout: OutputMode;
  readonly stderr: OutputMode;
  readonly signal: AbortSignal | undefined;
}

/**
 * A process in the sandbox, made by `sandbox.spawn()`. Wait for its end with {@linkcode status}, or with {@linkcode output} to have
 * what it wrote as well. A stream that was begun to be read should be read to its end or cancelled.
 */
export class ChildProcess extends EventTarget implements AsyncDisposable {
  /** The id of the process in the sandbox. */
  readonly pid: number;
  /** Data for the process's standard input, or `null` when it was not piped. Close it to end the input. */
  readonly stdin: WritableStream<Uint8Array> | null;
  /** What the process writes to standard output, or `null` when it is not piped. */
  readonly stdout: ReadableStream<Bytes> | null;
  /** What the process writes to standard error, or `null` when it is not piped. */
  readonly stderr: ReadableStream<Bytes> | null;
  /** Resolves when the process has ended. */
  readonly status: Promise<ChildProcessStatus>;
  readonly #connection: Connection;
  readonly #inherited: Promise<void>;

  /** @internal */
  constructor(init: ChildProcessInit) {
    super();
    const { connection, result, signal } = init;
    this.#connection = connection;
    this.pid = result.pid;
    this.stdin = init.stdin;
    const stdout = result.stdoutStreamId === null ? null : connection.receive(result.stdoutStreamId).readable;
    const stderr = result.stderrStreamId === null ? null : connection.receive(result.stderrStreamId).readable;
    this.stdout = init.stdout === "piped" ? stdout : null;
    this.stderr = init.stderr === "piped" ? stderr : null;
    this.#inherited = Promise.all([
      init.stdout === "inherit" && stdout !== null ? drainInto(stdout, process.stdout) : undefined,
      init.stderr === "inherit" && stderr !== null ? drainInto(stderr, process.stderr) : undefined,
    ]).then(() => undefined);
    this.#inherited.catch(() => undefined);

    // Asking for the end at once is what makes the sandbox release the output (protocol.md 4.4).
    this.status = connection.call("processWait", { pid: this.pid }).then(toStatus);
    this.status.catch(() => undefined);
    if (signal !== undefined) this.#killOnAbort(signal);
  }

  /**
   * Sends a signal, `SIGTERM` by default, and resolves when it is delivered. **It does not wait for the end**: await
   * {@linkcode status} for that. A process that has ended already is left alone.
   */
  async kill(signal: Signal = "SIGTERM"): Promise<void> {
    try {
      await this.#connection.call("processKill", { pid: this.pid, signal });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }

  /** Waits for the end of the process and of its output, and returns both. */
  async output(): Promise<ChildProcessOutput> {
    const [status, stdout, stderr] = await Promise.all([
      this.status,
      this.stdout === null ? null : collect(this.stdout),
      this.stderr === null ? null : collect(this.stderr),
      this.#inherited,
    ]);
    return {
      status,
      stdout,
      stderr,
      get stdoutText() {
        return stdout === null ? null : new TextDecoder().decode(stdout);
      },
      get stderrText() {
        return stderr === null ? null : new TextDecoder().decode(stderr);
      },
    };
  }

  /** Ends the process with `SIGTERM` and waits until it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.status;
  }

  #killOnAbort(signal: AbortSignal): void {
    // A connection that is closed cannot carry the signal; `status` reports that.
    const kill = (): void => void this.kill().catch(() => undefined);
    if (signal.aborted) kill();
    else signal.addEventListener("abort", kill, { once: true });
    const forget = (): void => signal.removeEventListener("abort", kill);
    this.status.then(forget, forget);
  }
}

/** Reads the status from the wire. */
export function toStatus(status: ProcessStatus): ChildProcessStatus {
  return {
    success: status.success,
    code: status.code,
    signal: status.signal as Signal | null,
    oom: status.oom !== null,
  };
}
