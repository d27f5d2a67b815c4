import type { ChildProcess, ChildProcessStatus, Sandbox } from "@caisson/sdk";
import { CliError } from "../cli-error.ts";
import { loadSdk } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import type { Output } from "../output/output.ts";
import { BrokenPipeError } from "../output/standard-outputs.ts";
import { forwardSignals } from "./forward-signals.ts";
import { NotRunError } from "./not-run-error.ts";
import type { Program } from "./program.ts";
import { pumpInput, pumpOutput } from "./pump.ts";

export interface RunCommandOptions {
  readonly cwd?: string | undefined;
}

/** Runs a program in the sandbox as if it were a local one: standard input, outputs, signals and the exit code, which is returned. */
export async function runCommand(
  sandbox: Sandbox,
  program: Program,
  output: Output,
  options: RunCommandOptions = {},
): Promise<number> {
  const starting = start(sandbox, program, options);
  using signals = forwardSignals(starting);
  const child = await Promise.race([starting, signals.over.then((code) => ({ code }))]);
  if ("code" in child) return child.code;
  const inputEnd = new AbortController();
  const input = child.stdin === null ? undefined : pumpInput(process.stdin, child.stdin, inputEnd.signal);
  try {
    return await Promise.race([output.isJson ? collect(child, output) : passThrough(child, output), signals.over]);
  } finally {
    inputEnd.abort();
    await input;
  }
}

async function start(
  sandbox: Sandbox,
  { words, isShellLine }: Program,
  { cwd }: RunCommandOptions,
): Promise<ChildProcess> {
  const [name = "", ...args] = isShellLine ? ["bash", "-c", ...words] : words;
  try {
    return await sandbox.spawn(name, {
      args,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      ...(cwd === undefined ? {} : { cwd }),
    });
  } catch (error) {
    throw await describeSpawnError(error, sandbox, name, isShellLine, cwd);
  }
}

/** Tells a program that is not there from one that cannot be run, as shells do. */
async function describeSpawnError(
  error: unknown,
  sandbox: Sandbox,
  name: string,
  isShellLine: boolean,
  cwd: string | undefined,
): Promise<unknown> {
  const { errors } = await loadSdk();
  const shown = JSON.stringify(name);
  if (error instanceof errors.PermissionDenied) {
    const hint = "It must be a file with the right to be executed: chmod +x";
    return new NotRunError(
      new CliError("EACCES", EXIT.failure, `Cannot run ${shown}: permission denied`, hint),
      EXIT.cannotRun,
    );
  }
  if (!(error instanceof errors.NotFound)) return error;
  if (cwd !== undefined && !(await isDirectory(sandbox, cwd))) {
    const message = `There is no directory ${JSON.stringify(cwd)} in the sandbox`;
    return new NotRunError(new CliError("ENOENT", EXIT.notFound, message), EXIT.cannotRun);
  }
  const hint = isShellLine
    ? "Without a shell in the sandbox, write the program and its arguments behind --."
    : "A line for the shell is written as one word: caisson exec SANDBOX-ID 'cd /app && npm test'";
  const problem = new CliError("ENOENT", EXIT.notFound, `There is no program ${shown} in the sandbox`, hint);
  return new NotRunError(problem, EXIT.programNotFound);
}

async function isDirectory(sandbox: Sandbox, path: string): Promise<boolean> {
  return await sandbox.fs.stat(path).then(
    (info) => info.isDirectory,
    () => false,
  );
}

async function passThrough(child: ChildProcess, output: Output): Promise<number> {
  const stdout = pumpOrStop(child, child.stdout, process.stdout).then(async (isWhole) => {
    if (isWhole) return;
    await child.status;
    throw new BrokenPipeError();
  });
  const [status] = await Promise.all([child.status, stdout, pumpOrStop(child, child.stderr, process.stderr)]);
  reportMemory(status, output);
  return status.code;
}

/** When nobody reads an output any more the program is told so, as the kernel tells a local one. */
async function pumpOrStop(
  child: ChildProcess,
  source: ReadableStream<Uint8Array> | null,
  target: NodeJS.WriteStream,
): Promise<boolean> {
  if (source === null || (await pumpOutput(source, target))) return true;
  await child.kill("SIGPIPE");
  return false;
}

async function collect(child: ChildProcess, output: Output): Promise<number> {
  const { status, stdoutText, stderrText } = await child.output();
  output.value("", { ...status, stdout: stdoutText, stderr: stderrText });
  return status.code;
}

function reportMemory(status: ChildProcessStatus, output: Output): void {
  if (status.oom)
    output.note("The sandbox ran out of memory, and the program was killed. `caisson create --memory` gives more.");
}
