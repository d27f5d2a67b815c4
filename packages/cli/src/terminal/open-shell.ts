import type { Sandbox, Terminal, TerminalSize } from "@caisson/sdk";
import { type Program, toShellLine } from "./program.ts";
import { pumpInput, pumpOutput } from "./pump.ts";
import { withInterrupt } from "./until-interrupted.ts";

export interface ShellOptions {
  readonly cwd?: string | undefined;
  /** What runs on the terminal. Default: a login shell. */
  readonly program?: Program | undefined;
}

/**
 * Connects this terminal with a program on one in the sandbox, and returns the program's exit code. Keys travel as they are: Ctrl-C is
 * one of them, and the kernel in the sandbox makes a signal of it. When this process is asked to end, so is the program.
 */
export async function openShell(sandbox: Sandbox, { cwd, program }: ShellOptions = {}): Promise<number> {
  return await withInterrupt(async (signal) => {
    await using terminal = await sandbox.terminal({
      ...windowSize(),
      env: colourEnvironment(),
      signal,
      ...(cwd === undefined ? {} : { cwd }),
      ...(program === undefined ? {} : { command: toShellLine(program) }),
    });
    const code = await attach(terminal);
    signal.throwIfAborted();
    return code;
  });
}

async function attach(terminal: Terminal): Promise<number> {
  // When the connection is gone the shell is, too, and its status says so.
  const onResize = (): void => void terminal.resize(windowSize()).catch(() => undefined);
  process.stdout.on("resize", onResize);
  process.stdin.setRawMode(true);
  const inputEnd = new AbortController();
  const input = pumpInput(process.stdin, terminal.input, inputEnd.signal);
  try {
    const [, status] = await Promise.all([pumpOutput(terminal.output, process.stdout), terminal.status]);
    return status.code;
  } finally {
    process.stdin.setRawMode(false);
    process.stdout.off("resize", onResize);
    inputEnd.abort();
    await input;
  }
}

function windowSize(): TerminalSize {
  const { columns, rows } = process.stdout;
  return { columns, rows };
}

/** What programs need to know about the screen that they are shown on. */
function colourEnvironment(): Record<string, string> {
  const { TERM, COLORTERM } = process.env;
  return { ...(TERM === undefined ? {} : { TERM }), ...(COLORTERM === undefined ? {} : { COLORTERM }) };
}
