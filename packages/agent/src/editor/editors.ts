import type { ProcessStatus, RpcResult } from "@caisson/protocol/rpc-methods";
import { AppError } from "../calls/errors.ts";
import type { Call } from "../calls/method.ts";
import { delay } from "../host/timers.ts";
import type { ProcessTable, SandboxProcess } from "../processes/process-table.ts";
import { requireDirectory } from "../processes/resolve-command.ts";
import { editorAnswers } from "./editor-answers.ts";
import { type EditorProgram, findEditor } from "./editor-program.ts";
import { writeEditorSettings } from "./editor-settings.ts";

/** From the start of the program until it serves. */
const START_TIMEOUT_MS = 60_000;
const INSTALL_TIMEOUT_MS = 120_000;
/** Longer than both, since the client reserves and binds a name before it asks for the output (protocol.md 4.7). */
const GATE_TIMEOUT_MS = 150_000;
const POLL_INTERVAL_MS = 50;
/** protocol.md 4.7. */
const DENO_EXTENSION = "denoland.vscode-deno";

export interface EditorOptions {
  /** The directory to open, absolute. */
  readonly directory: string;
  /** Ids, or paths of `.vsix` files; relative ones start at the default directory. */
  readonly extensions: readonly string[];
  /** Laid over the sandbox environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Settings of the machine, in place of those that there are; undefined: they stay. */
  readonly settings: Readonly<Record<string, unknown>> | undefined;
}

/** The editors that clients started. Each is a process of its own on a port of its own, and stays until it ends, is killed, or the sandbox ends. */
export class Editors {
  /** Their pids are a space of their own (protocol.md 4.7). */
  readonly processes: ProcessTable;
  readonly #ports = new Set<number>();
  /** Extensions are installed by one program at a time. */
  #installed: Promise<unknown> = Promise.resolve();

  constructor(processes: ProcessTable) {
    this.processes = processes;
  }

  /**
   * Resolves when the editor serves. Throws `NotSupported` when the sandbox has none, `NotFound` for a directory that there is not, and an error that
   * quotes the program when an extension cannot be installed or the editor ends or does not serve in time; then nothing of it goes on.
   */
  async start(options: EditorOptions, call: Call): Promise<RpcResult<"vscode">> {
    const { environment, settings } = call.sandbox;
    requireDirectory(options.directory);
    const program = findEditor({ ...environment.toObject(), ...options.env }, settings.defaultDirectory);
    if (options.settings !== undefined) await writeEditorSettings(program.settingsPath, options.settings);
    for (const extension of options.extensions) await this.#install(extension, program, options, call);
    const port = this.#takePort();
    try {
      const args = program.serve({ port, directory: options.directory });
      const process = this.#spawn(program, args, options, call, "piped");
      void process.exited.then(() => this.#ports.delete(port));
      await this.#untilServes(process, program, port, call.signal);
      this.#installDenoExtension(program, options, call);
      const { pid, stdoutStreamId, stderrStreamId } = process;
      if (stdoutStreamId === null || stderrStreamId === null) throw new Error("An editor's output is always piped");
      return { pid, port, stdoutStreamId, stderrStreamId };
    } catch (error) {
      this.#ports.delete(port);
      throw error;
    }
  }

  #spawn(
    { command, env }: EditorProgram,
    args: readonly string[],
    options: EditorOptions,
    call: Call,
    output: "piped" | "null",
  ): SandboxProcess {
    const variables = { ...env, ...options.env };
    const pipes = { stdinStreamId: undefined, stdout: output, stderr: output } as const;
    const rest = { clearEnv: false, cwd: undefined, gateTimeoutMs: GATE_TIMEOUT_MS };
    return this.processes.spawn({ command, args, env: variables, ...pipes, ...rest }, call);
  }

  async #untilServes(
    process: SandboxProcess,
    { command, readyPath }: EditorProgram,
    port: number,
    signal: AbortSignal,
  ): Promise<void> {
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    while (process.isRunning && !signal.aborted && performance.now() < deadlineMs) {
      // Another program may have taken the port, and the editor ended for that.
      if ((await editorAnswers(port, readyPath)) && process.isRunning) return;
      await delay(POLL_INTERVAL_MS);
    }
    const late = `it did not answer within ${START_TIMEOUT_MS / 1000} s`;
    await this.#fail(process, `Cannot start VS Code: ${command}`, late);
  }

  /** Only one at a time, since each writes the same list of extensions. */
  async #install(extension: string, program: EditorProgram, options: EditorOptions, call: Call): Promise<void> {
    const run = async (): Promise<void> => {
      const process = this.#spawn(program, program.install(extension), options, call, "piped");
      const status = await this.#untilEnded(process, call.signal);
      if (status?.success === true) process.discardOutput();
      else await this.#fail(process, `Cannot install the extension ${JSON.stringify(extension)}`, "it takes too long");
    };
    const turn = this.#installed.then(run);
    this.#installed = turn.catch(() => undefined);
    await turn;
  }

  /** The hosted service always has it. Where its registry cannot be reached, the editor is one without it. */
  #installDenoExtension(program: EditorProgram, options: EditorOptions, call: Call): void {
    if (hasExtension(program, DENO_EXTENSION)) return;
    const run = async (): Promise<void> => {
      const process = this.#spawn(program, program.install(DENO_EXTENSION), options, call, "null");
      await this.#untilEnded(process);
      this.#end(process);
    };
    this.#installed = this.#installed
      .then(run)
      .catch((error) => console.error("Cannot run the editor for its Deno extension:", error));
  }

  /** How it ended; null: not in time, or not before the signal aborted. */
  async #untilEnded(process: SandboxProcess, signal?: AbortSignal): Promise<ProcessStatus | null> {
    const deadlineMs = performance.now() + INSTALL_TIMEOUT_MS;
    while (process.isRunning && signal?.aborted !== true && performance.now() < deadlineMs)
      await Promise.race([process.exited, delay(POLL_INTERVAL_MS)]);
    return process.isRunning ? null : await process.exited;
  }

  /** Ends the process and throws, with the end of what it said. */
  async #fail(process: SandboxProcess, what: string, late: string): Promise<never> {
    const wasRunning = process.isRunning;
    this.#end(process);
    const { code } = await process.exited;
    const said = process.discardOutput().trim();
    const why = wasRunning ? late : `it ended with code ${code}`;
    const message = `${what}: ${why}${said === "" ? "" : `. It said:\n${said}`}`;
    throw new AppError(wasRunning ? "TimedOut" : "Error", message);
  }

  #end({ pid, isRunning }: SandboxProcess): void {
    try {
      if (isRunning) this.processes.kill(pid, "SIGKILL");
    } catch (error) {
      // It has just ended by itself.
      if (!(error instanceof AppError && error.code === "ENOENT")) throw error;
    }
  }

  #takePort(): number {
    for (;;) {
      const port = freePort();
      if (this.#ports.has(port)) continue;
      this.#ports.add(port);
      return port;
    }
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function hasExtension({ extensionsDirectory }: EditorProgram, id: string): boolean {
  try {
    return [...Deno.readDirSync(extensionsDirectory)].some(({ name }) => name.startsWith(`${id}-`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
