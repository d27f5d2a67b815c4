import type { ChildProcess, ChildProcessStatus, Sandbox } from "@caisson/sdk";
import type { Output } from "../output/output.ts";
import { forwardSignals } from "./forward-signals.ts";
import { pumpInput, pumpOutput } from "./pump.ts";

/** Exit codes of shells for a program that SIGINT or SIGPIPE ended. */
const INTERRUPTED = 130;
const BROKEN_PIPE = 141;

export interface RunCommandOptions {
  readonly cwd?: string | undefined;
}

/**
 * Runs a shell command in the sandbox as if it were a local one: standard input, outputs, signals and the exit code, which is returned.
 * The words are joined by spaces and read by bash, as `deno sandbox exec` does (protocol.md section 6).
 */
export async function runCommand(
  sandbox: Sandbox,
  words: readonly string[],
  output: Output,
  options: RunCommandOptions = {},
): Promise<number> {
  const child = await sandbox.spawn("bash", {
    args: ["-c", words.join(" ")],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  using signals = forwardSignals(child);
  const input = child.stdin === null ? undefined : pumpInput(process.stdin, child.stdin);
  try {
    const ended = output.isJson ? collect(child, output) : passThrough(child, output);
    return await Promise.race([ended, signals.detached.then(() => detached(output))]);
  } finally {
    process.stdin.destroy();
    await input;
  }
}

async function passThrough(child: ChildProcess, output: Output): Promise<number> {
  const [stdout, , status] = await Promise.all([
    pumpOrStop(child, child.stdout, process.stdout),
    pumpOrStop(child, child.stderr, process.stderr),
    child.status,
  ]);
  reportMemory(status, output);
  return stdout ? status.code : BROKEN_PIPE;
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

function detached(output: Output): number {
  output.note("Not waiting any longer. The program goes on in the sandbox as long as that lives.");
  return INTERRUPTED;
}
