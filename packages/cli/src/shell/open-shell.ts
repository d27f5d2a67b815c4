import type { ChildProcess, Sandbox } from "@caisson/sdk";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { pumpInput, pumpOutput } from "../terminal/pump.ts";
import { splitFirstLine } from "./first-line.ts";

export interface ShellOptions {
  readonly cwd?: string | undefined;
}

/**
 * Opens an interactive shell on a real pseudo-terminal in the sandbox and returns its exit code.
 *
 * The protocol knows pipes only, so `script` of util-linux makes the pseudo-terminal: it copies between its own input and output, which
 * are pipes, and the terminal, on which the shell runs. Everything that a terminal does is then done by the kernel in the sandbox: this
 * side sends keys as they are, and Ctrl-C is a key. The shell's first line of output names the terminal; the size of the window is set
 * from outside with `stty`, at which the kernel tells the program in the foreground.
 */
export async function openShell(sandbox: Sandbox, options: ShellOptions = {}): Promise<number> {
  const { columns, rows } = process.stdout;
  const start = `stty rows ${rows} cols ${columns}; tty; exec bash -l`;
  const child = await sandbox.spawn("script", {
    args: ["--quiet", "--return", "--flush", "--echo", "always", "--command", start, "/dev/null"],
    env: terminalEnvironment(),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  return await attach(sandbox, child);
}

async function attach(sandbox: Sandbox, child: ChildProcess): Promise<number> {
  if (child.stdin === null || child.stdout === null || child.stderr === null)
    throw new TypeError("The shell has no pipes");
  const { line: terminal, rest } = await splitFirstLine(child.stdout);
  if (!terminal.startsWith("/dev/")) throw noTerminal(terminal, await new Response(child.stderr).text());
  using _size = followWindowSize(sandbox, terminal);
  process.stdin.setRawMode(true);
  const input = pumpInput(process.stdin, child.stdin);
  try {
    const [, , status] = await Promise.all([
      pumpOutput(rest, process.stdout),
      pumpOutput(child.stderr, process.stderr),
      child.status,
    ]);
    return status.code;
  } finally {
    process.stdin.setRawMode(false);
    process.stdin.destroy();
    await input;
  }
}

/** Keeps the window size of the terminal in the sandbox equal to this one's. Sizes that change while one is being set are set next. */
function followWindowSize(sandbox: Sandbox, terminal: string): Disposable {
  let isBusy = false;
  let isStale = false;
  const follow = async (): Promise<void> => {
    isStale = true;
    if (isBusy) return;
    isBusy = true;
    while (isStale) {
      isStale = false;
      const { columns, rows } = process.stdout;
      const args = ["-F", terminal, "rows", String(rows), "cols", String(columns)];
      const stty = await sandbox.spawn("stty", { args, stdout: "null", stderr: "null" });
      await stty.status;
    }
    isBusy = false;
  };
  // When the connection is gone the shell is, too, and its status says so.
  const listener = (): void => void follow().catch(() => undefined);
  process.stdout.on("resize", listener);
  return { [Symbol.dispose]: () => void process.stdout.off("resize", listener) };
}

/** What programs need to know about the terminal that they are shown on. */
function terminalEnvironment(): Record<string, string> {
  const { TERM = "xterm-256color", COLORTERM } = process.env;
  return { TERM, SHELL: "/bin/bash", ...(COLORTERM === undefined ? {} : { COLORTERM }) };
}

function noTerminal(line: string, stderr: string): CliError {
  const detail = stderr.trim() || line || "the shell ended at once";
  const hint =
    "The sandbox's root needs bash, and script and stty of Debian. Commands without a terminal: caisson exec.";
  return new CliError("NO_TERMINAL", EXIT.failure, `Cannot open a terminal in the sandbox: ${detail}`, hint);
}
