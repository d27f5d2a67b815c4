import { errnoError } from "../calls/errors.ts";
import { pathFrom } from "../files/paths.ts";

const EXECUTE_BITS = 0o111;
/** Where programs are looked for when there is no PATH. */
export const DEFAULT_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Finds the program of a command as the shell does: a name with a slash is a path, any other is looked up in `searchPath`. Throws
 * `NotFound` or `PermissionDenied`, so that a client gets an error and not an exit code (protocol.md 4.4).
 */
export function resolveCommand(command: string, searchPath: string, directory: string): string {
  if (command === "" || command.includes("\0"))
    throw errnoError(command === "" ? "ENOENT" : "EINVAL", `spawn ${JSON.stringify(command)}`);
  const candidates = command.includes("/")
    ? [command]
    : searchPath.split(":").map((folder) => `${folder || "."}/${command}`);
  let refused = "ENOENT";
  for (const candidate of candidates) {
    const path = pathFrom(directory, candidate);
    const problem = programProblem(path);
    if (problem === null) return path;
    if (problem !== "ENOENT") refused = problem;
  }
  throw errnoError(refused, `spawn ${JSON.stringify(command)}`);
}

/** The program by this name that `searchPath` has; null when it has none. */
export function findCommand(name: string, searchPath: string, directory: string): string | null {
  const candidates = searchPath.split(":").map((folder) => pathFrom(directory, `${folder || "."}/${name}`));
  return candidates.find((path) => programProblem(path) === null) ?? null;
}

/** Throws `NotFound`, `NotADirectory` or the like when a process cannot start in this directory. */
export function requireDirectory(path: string): void {
  if (path.includes("\0")) throw errnoError("EINVAL", `start a process in ${JSON.stringify(path)}`);
  if (!Deno.statSync(path).isDirectory) throw errnoError("ENOTDIR", `start a process in ${JSON.stringify(path)}`);
}

function programProblem(path: string): "ENOENT" | "EACCES" | "ENOTDIR" | null {
  try {
    const info = Deno.statSync(path);
    return info.isFile && ((info.mode ?? 0) & EXECUTE_BITS) !== 0 ? null : "EACCES";
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) return "EACCES";
    return "ENOENT";
  }
}
