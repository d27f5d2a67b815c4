import { AppError } from "../calls/errors.ts";

/** Major numbers of terminals: consoles, serial lines, and both ends of pseudo-terminals (devices.txt of Linux). */
const isTerminal = (major: number) => major === 4 || major === 5 || (major >= 128 && major <= 143);

/**
 * What is at a path, when it can be opened. Opening a named pipe waits for its other end, and reading a terminal for somebody to type, in a
 * thread that nothing can wake; a few of them would end all work with files. So these are for programs, which can be killed.
 */
export async function requireOpenable(path: string): Promise<Deno.FileInfo> {
  const info = await Deno.stat(path);
  const kind = unopenableKind(info);
  if (kind === null) return info;
  const message = `Cannot open ${JSON.stringify(path)} as a file: it is ${kind}. Use it from a program that you start`;
  throw new AppError("NotSupported", message, "ENOTSUP");
}

/** The same for a path where there may be nothing yet. */
export async function requireOpenableIfThere(path: string): Promise<void> {
  try {
    await requireOpenable(path);
  } catch (error) {
    // Whatever else is wrong with the path shows when it is opened.
    if (error instanceof AppError) throw error;
  }
}

function unopenableKind(info: Deno.FileInfo): string | null {
  if (info.isFifo === true) return "a named pipe";
  if (info.isSocket === true) return "a socket";
  return info.isCharDevice === true && isTerminal(majorOf(info.rdev ?? 0)) ? "a terminal" : null;
}

/** The lower twelve bits of a major number, where all of these are (makedev(3)). */
function majorOf(rdev: number): number {
  return Math.floor(rdev / 256) % 4096;
}
