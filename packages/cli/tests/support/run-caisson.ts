import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** What a command printed, and how it ended. */
export interface Finished {
  readonly stdout: string;
  readonly stderr: string;
  /** The exit code; `null` when a signal ended it. */
  readonly code: number | null;
}

export type Environment = Readonly<Record<string, string>>;

/** Starts the real command line, with nothing of the environment of the tests but the search path. */
export function startCaisson(words: readonly string[], environment: Environment): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [MAIN, ...words], { env: { PATH: process.env.PATH ?? "", ...environment } });
}

/** Runs a command to its end. */
export async function runCaisson(
  words: readonly string[],
  environment: Environment,
  input: string | Uint8Array = "",
): Promise<Finished> {
  const child = startCaisson(words, environment);
  // A command that does not read its input may be gone before all of it is written.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  return await finish(child);
}

export async function finish(child: ChildProcessWithoutNullStreams): Promise<Finished> {
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output.stderr += text;
  });
  const [code] = await once(child, "close");
  return { ...output, code };
}

/** The words to start the command line with, for programs that start programs. */
export const CAISSON = [process.execPath, MAIN] as const;
