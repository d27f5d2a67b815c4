import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { HasDescriptor } from "../calls/descriptor.ts";
import { faultPoint } from "../operations/fault.ts";

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
  return new Promise((resolve, reject) => {
    const { input } = options;
    const child = spawn(tool, args, {
      stdio: [typeof input === "string" ? "pipe" : (input?.fd ?? "ignore"), "pipe", "pipe"],
      env: { ...process.env, ...options.env },
      ...(options.workingDirectory === undefined ? {} : { cwd: options.workingDirectory }),
      ...(options.signal === undefined ? {} : { signal: options.signal, killSignal: "SIGKILL" }),
    });
    let output = "";
    const errorLines: string[] = [];
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (output.length < OUTPUT_LIMIT_CHARACTERS) output += text;
    });
    const lines = child.stderr === null ? null : createInterface(child.stderr);
    lines?.on("line", (line) => {
      errorLines.push(line);
      if (errorLines.length > ERROR_LINES) errorLines.shift();
      options.onErrorLine?.(line);
    });
    // A tool that ends before it has read its input is judged by its exit code, not by the broken pipe.
    child.stdin?.on("error", () => undefined).end(input);
    child.on("error", (error) => {
      if (options.signal?.aborted === true) reject(options.signal.reason);
      else {
        const details = { exitCode: null, signal: null, errorOutput: "" };
        reject(new ToolError(tool, `cannot be started (${error.message})`, details, { cause: error }));
      }
    });
    child.on("close", (exitCode, signal) => {
      if (exitCode === 0) resolve(output);
      else if (options.signal?.aborted === true) reject(options.signal.reason);
      else {
        const outcome = signal === null ? `ended with code ${exitCode}` : `was killed by ${signal}`;
        reject(new ToolError(tool, outcome, { exitCode, signal, errorOutput: errorLines.join("\n") }));
      }
    });
  });
}
