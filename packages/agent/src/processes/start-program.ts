import { pathFrom } from "../files/paths.ts";
import { type Environment, requireVariable } from "./environment.ts";
import { explainTooLarge } from "./explain-too-large.ts";
import { asFirstVictim } from "./oom-score.ts";
import { DEFAULT_SEARCH_PATH, requireDirectory, resolveCommand } from "./resolve-command.ts";
import { realTimeSignalName, SIGNAL_CODE_BASE } from "./signals.ts";

/** What of a program its start needs. */
export interface ProgramOptions {
  /** A path, or a name that the sandbox's PATH finds. */
  readonly command: string;
  readonly args: readonly string[];
  /** Laid over the sandbox environment, or all there is with `clearEnv`. */
  readonly env: Readonly<Record<string, string>>;
  readonly clearEnv: boolean;
  /** Absolute, or relative to the default directory. */
  readonly cwd: string | undefined;
  readonly stdin: "piped" | "null";
  readonly stdout: "piped" | "null";
  readonly stderr: "piped" | "null";
}

/**
 * Starts a program in a session and group of its own. Deno itself finds programs on the PATH of the environment that they get, without an error for
 * each directory that has none, which would cost the first command milliseconds. Where there is no such PATH, or to say exactly what is wrong, the
 * search is our own. Throws `NotFound`, `PermissionDenied` and the like when it cannot start.
 */
export function startProgram(
  environment: Environment,
  defaultDirectory: string,
  options: ProgramOptions,
): Deno.ChildProcess {
  const directory = pathFrom(defaultDirectory, options.cwd ?? defaultDirectory);
  for (const [key, value] of Object.entries(options.env)) requireVariable(key, value);
  const env = options.clearEnv ? { ...options.env } : { ...environment.toObject(), ...options.env };
  const start = (program: string): Deno.ChildProcess => {
    const command = new Deno.Command(program, {
      args: [...options.args],
      cwd: directory,
      // The agent's own variables are never inherited: the sandbox environment is all there is.
      clearEnv: true,
      env,
      stdin: options.stdin,
      stdout: options.stdout,
      stderr: options.stderr,
      detached: true,
    });
    try {
      return asFirstVictim(() => command.spawn());
    } catch (error) {
      throw explainTooLarge(error, options.command, options.args, env);
    }
  };
  try {
    if (env.PATH !== undefined) return start(options.command);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied)) throw error;
  }
  requireDirectory(directory);
  const searchPath = env.PATH ?? environment.get("PATH") ?? DEFAULT_SEARCH_PATH;
  return start(resolveCommand(options.command, searchPath, directory));
}

/** How the child ended. Deno has no names for real-time signals and rejects, with the number in the message. */
export async function statusOf(
  child: Deno.ChildProcess,
): Promise<{ readonly code: number; readonly signal: string | null }> {
  try {
    return await child.status;
  } catch (error) {
    const number = Number(/Invalid signal: (\d+)/.exec(String(error))?.[1]);
    return { code: SIGNAL_CODE_BASE + number, signal: realTimeSignalName(number) };
  }
}
