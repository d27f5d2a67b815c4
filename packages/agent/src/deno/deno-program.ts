import { AppError } from "../calls/errors.ts";
import { removeIfPresent } from "./remove-if-present.ts";

/** Longest code that is passed as an argument; Linux takes 128 KiB (execve(2)). */
const LONGEST_ARGUMENT_BYTES = 120 * 1024;

/** Arguments for the Deno program, and what is to be removed when the process has ended. */
export interface DenoProgram {
  readonly args: readonly string[];
  dispose(): Promise<void>;
}

const nothing = () => Promise.resolve();

/**
 * A program given as text. It runs as a module in the working directory, so that relative imports and configuration are those of the
 * files there. Deno's `eval` does that without a file; code too long for an argument becomes a hidden file for as long as it runs.
 */
export async function programFromCode(code: string, extension: string, cwd: string): Promise<DenoProgram> {
  if (code.includes("\0")) throw new AppError("InvalidData", "Cannot run the code: it has a NUL character", "EINVAL");
  if (new TextEncoder().encode(code).length <= LONGEST_ARGUMENT_BYTES) {
    // A leading hyphen would read as an option.
    return { args: ["eval", `--ext=${extension}`, code.startsWith("-") ? ` ${code}` : code], dispose: nothing };
  }
  const path = `${cwd}/.caisson-${crypto.randomUUID()}.${extension}`;
  await Deno.writeTextFile(path, code, { createNew: true, mode: 0o600 });
  return { args: ["run", "--allow-all", path], dispose: () => removeIfPresent(path) };
}

/** A program in a file or at a URL. */
export function programFromEntrypoint(entrypoint: string): DenoProgram {
  return {
    args: ["run", "--allow-all", entrypoint.startsWith("-") ? `./${entrypoint}` : entrypoint],
    dispose: nothing,
  };
}
