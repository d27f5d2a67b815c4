import { once } from "node:events";
import { createInterface } from "node:readline";
import type { HasDescriptor } from "../calls/descriptor.ts";
import { faultPoint } from "../operations/fault.ts";
import { type SpawnedProgram, spawnProgram } from "./spawn-program.ts";

/** How much of a tool's output is kept: enough for any error message, and bounded. */
const OUTPUT_LIMIT_CHARACTERS = 1024 * 1024;
const ERROR_LINES = 20;

export interface ToolOptions {
  /** Text for the tool's standard input, or an open file to be it; it is otherwise empty. */
  readonly input?: string | HasDescriptor;
  /** Added to this process's environment; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory?: string;
  /** Kills the tool (not its children) when it fires. */
  readonly signal?: AbortSignal;
  /** Called with each line that the tool writes to its standard error, as progress. */
  readonly onErrorLine?: (line: string) => void;
}

interface ToolOutcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly errorOutput: string;
}

/** A tool that could not be started, ended with another code than 0, or was killed. */
export class ToolError extends Error {
  readonly tool: string;
  readonly exitCode: number | null;
  /** What killed it, or `null`. */
  readonly signal: NodeJS.Signals | null;
  /** The last lines that it wrote to its standard error. */
  readonly errorOutput: string;

  constructor(tool: string, outcome: string, details: ToolOutcome, options?: ErrorOptions) {
    super(`${tool} ${outcome}${details.errorOutput === "" ? "" : `: ${details.errorOutput}`}`, options);
    this.name = "ToolError";
    this.tool = tool;
    this.exitCode = details.exitCode;
    this.signal = details.signal;
    this.errorOutput = details.errorOutput;
  }
}

/** Whether a tool failed by a fault of its own, and not because somebody ended it. */
export function hasCrashed(error: unknown): error is ToolError {
  return error instanceof ToolError && error.signal !== null && ["SIGSEGV", "SIGABRT", "SIGBUS"].includes(error.signal);
}

/** Runs a tool that owns a format (`mkfs.ext4`, `nft`, …) and resolves with its standard output. Passes the fault point `tool.<name>`. */
export async function runTool(tool: string, args: readonly string[], options: ToolOptions = {}): Promise<string> {
  await faultPoint(`tool.${tool}`);
  options.signal?.throwIfAborted();
  const { signal } = options;
  const program = start(tool, args, options);
  const ended = readToEnd(tool, program, options);
  return signal === undefined ? ended : untilAborted(ended, signal, () => program.kill("SIGKILL"));
}

function start(tool: string, args: readonly string[], { input, env, workingDirectory }: ToolOptions): SpawnedProgram {
  try {
    return spawnProgram(tool, args, {
      ...(input === undefined ? {} : { input: typeof input === "string" ? "pipe" : input }),
      output: "pipe",
      env: { ...process.env, ...env },
      ...(workingDirectory === undefined ? {} : { workingDirectory }),
    });
  } catch (error) {
    const details = { exitCode: null, signal: null, errorOutput: "" };
    const reason = error instanceof Error ? error.message : String(error);
    throw new ToolError(tool, `cannot be started (${reason})`, details, { cause: error });
  }
}

/** Its standard output. Rejects when it fails. Until then nothing of it is gone, and afterwards all. */
async function readToEnd(tool: string, program: SpawnedProgram, { input, onErrorLine }: ToolOptions): Promise<string> {
  const { stdin, stdout, stderr } = program;
  let output = "";
  const errorLines: string[] = [];
  stdout?.setEncoding("utf8").on("data", (text: string) => {
    if (output.length < OUTPUT_LIMIT_CHARACTERS) output += text;
  });
  const lines = stderr === null ? null : createInterface(stderr);
  lines?.on("line", (line) => {
    errorLines.push(line);
    if (errorLines.length > ERROR_LINES) errorLines.shift();
    onErrorLine?.(line);
  });
  // A tool that ends before it has read its input is judged by its exit code, not by the broken pipe.
  stdin?.on("error", () => undefined).end(typeof input === "string" ? input : "");
  await Promise.all([stdout, stderr].map((stream) => stream !== null && once(stream, "close")));
  const { exitCode, signal } = await program.ended;
  stdin?.destroy();
  if (exitCode === 0) return output;
  const outcome = signal === null ? `ended with code ${exitCode}` : `was killed by ${signal}`;
  throw new ToolError(tool, outcome, { exitCode, signal, errorOutput: errorLines.join("\n") });
}

/** As `work`, unless the signal fires before: then it stops the work, and rejects with the signal's reason at once. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal, stop: () => void): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => {
    stop();
    aborted.reject(signal.reason);
  };
  signal.addEventListener("abort", abort, { once: true });
  try {
    // It may have fired while the tool was being started.
    if (signal.aborted) abort();
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
    work.catch(() => undefined);
  }
}
