import process from "node:process";
import type { ProcessStatus, SpawnResult } from "@caisson/protocol";
import type { Bytes } from "../internal/bytes.ts";
import type { CallOptions, Connection } from "../internal/connection.ts";
import type { IncomingStream } from "../internal/incoming-stream.ts";
import { collect, drainInto } from "../internal/streams.ts";
import { untilClosed } from "../internal/until-closed.ts";

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

/** How long a process that was ended by an aborted signal has to obey `SIGTERM`, in milliseconds; then it is sent `SIGKILL`. */
const OBEY_MS = 5_000;
/** How long after the end of such a process its last output is waited for, in milliseconds. */
const LAST_OUTPUT_MS = 500;

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
  /**
   * Resolves when its outputs have ended too.
   *
   * @internal
   */
  readonly ended: Promise<unknown>;
  readonly #connection: Connection;
  readonly #inherited: Promise<void>;
  /** What still arrives from the process, whatever becomes of it here. */
  readonly #streams: readonly IncomingStream[];

  /** @internal */
  constructor(init: ChildProcessInit) {
    super();
    const { connection, result, signal } = init;
    this.#connection = connection;
    this.pid = result.pid;
    this.stdin = init.stdin;
    const receive = (streamId: number | null) => (streamId === null ? null : connection.receive(streamId));
    const stdoutStream = receive(result.stdoutStreamId);
    const stderrStream = receive(result.stderrStreamId);
    this.#streams = [stdoutStream, stderrStream].filter((stream) => stream !== null);
    const stdout = stdoutStream?.readable ?? null;
    const stderr = stderrStream?.readable ?? null;
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
    this.ended = Promise.allSettled([this.status, ...this.#streams.map(({ done }) => done)]);
    if (signal !== undefined) this.#endOnAbort(signal);
  }

  /**
   * Sends a signal, `SIGTERM` by default, and resolves when it is delivered. **It does not wait for the end**: await
   * {@linkcode status} for that. A process that has ended already is left alone.
   */
  async kill(signal: Signal = "SIGTERM", options?: CallOptions): Promise<void> {
    try {
      await this.#connection.call("processKill", { pid: this.pid, signal }, options);
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

  /**
   * Ends the process with `SIGTERM`, waits until it has ended, and lets go of its output. A process whose sandbox is gone has ended with
   * it, which is no error here.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await untilClosed(async () => {
      await this.kill();
      await this.status;
    });
    this.#release();
  }

  /**
   * Waits no longer for the output than a moment after the end of the process. Processes that it left behind may hold the pipes for ever;
   * what they write from then on is discarded.
   *
   * @internal
   */
  letOutputGo(): void {
    const stop = (): void => {
      const timer = setTimeout(() => this.#release(), LAST_OUTPUT_MS);
      void this.ended.then(() => clearTimeout(timer));
    };
    this.status.then(stop, stop);
  }

  #release(): void {
    for (const stream of this.#streams) this.#connection.release(stream);
  }

  #endOnAbort(signal: AbortSignal): void {
    // A connection that is closed cannot carry the signal; `status` reports that.
    const kill = (name: Signal): void => void this.kill(name).catch(() => undefined);
    const end = (): void => {
      kill("SIGTERM");
      const timer = setTimeout(() => kill("SIGKILL"), OBEY_MS);
      const obeyed = (): void => clearTimeout(timer);
      this.status.then(obeyed, obeyed);
      this.letOutputGo();
    };
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { once: true });
    const forget = (): void => signal.removeEventListener("abort", end);
    void this.ended.then(forget);
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
