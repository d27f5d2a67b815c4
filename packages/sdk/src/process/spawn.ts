import type { SpawnParams } from "@caisson/protocol";
import type { Connection } from "../internal/connection.ts";
import { orAbort } from "../internal/or-abort.ts";
import { toPath } from "../internal/path.ts";
import type { ChildProcessInit, OutputMode } from "./child-process.ts";

/** Options for starting a process. */
export interface SpawnOptions {
  /** Arguments, without the program's name. */
  args?: string[];
  /** The working directory. Default: the sandbox's default directory, `/home/app`. */
  cwd?: string | URL;
  /** Start from an empty environment instead of the sandbox's. Default: false. */
  clearEnv?: boolean;
  /** Environment variables, on top of the sandbox's. */
  env?: Record<string, string>;
  /**
   * Ends the process when it is aborted: `SIGTERM` for it and its group, `SIGKILL` if it still runs five seconds later. Its output then
   * ends with it, even where processes that it left behind hold the pipes. Aborted while the process is being started, the call rejects
   * with the signal's reason.
   */
  signal?: AbortSignal;
  /** `"piped"` makes {@linkcode ChildProcess.stdin} writable; `"null"` gives the process an empty input. Default: `"null"`. */
  stdin?: "piped" | "null";
  /**
   * `"piped"` makes {@linkcode ChildProcess.stdout} readable, `"inherit"` copies it to this process's output, `"null"` discards it.
   * Default: `"inherit"`.
   */
  stdout?: OutputMode;
  /** The same for standard error. Default: `"inherit"`. */
  stderr?: OutputMode;
}

type CommonParams = Pick<SpawnParams, "stdinStreamId" | "stdout" | "stderr" | "cwd" | "clearEnv" | "env">;

/**
 * Starts a process by the call that `start` makes with the common parameters, and gathers what its object is made from. The stream of
 * an input that was opened for a process that could not be started is ended.
 */
export async function startProcess<R extends ChildProcessInit["result"]>(
  connection: Connection,
  options: SpawnOptions,
  start: (params: CommonParams) => Promise<R>,
): Promise<ChildProcessInit & { readonly result: R }> {
  const { stdin = "null", stdout = "inherit", stderr = "inherit", cwd, clearEnv, env, signal } = options;
  signal?.throwIfAborted();
  const input = stdin === "piped" ? connection.openOutgoing() : null;
  try {
    const starting = start({
      stdinStreamId: input?.id,
      // Copying to this process's output is done here; the sandbox only sends (protocol.md 4.4).
      stdout: stdout === "inherit" ? "piped" : stdout,
      stderr: stderr === "inherit" ? "piped" : stderr,
      cwd: cwd === undefined ? undefined : toPath(cwd),
      clearEnv,
      env,
    });
    const result = await orAbort(starting, signal, (late) => void abandon(connection, late));
    return { connection, result, stdin: input?.writable ?? null, stdout, stderr, signal };
  } catch (error) {
    await input?.writable.abort(error);
    throw error;
  }
}

/** Ends a process that nobody waits for any more. `space`: where its pid is one (protocol.md 4.7). Resolves when the sandbox has heard of it, or never will. */
export async function abandon(
  connection: Connection,
  { pid, stdoutStreamId, stderrStreamId }: ChildProcessInit["result"],
  space: { readonly vscode?: true } = {},
): Promise<void> {
  for (const streamId of [stdoutStreamId, stderrStreamId]) {
    if (streamId !== null) connection.release(connection.receive(streamId));
  }
  await connection.call("processKill", { pid, signal: "SIGKILL", ...space }).catch(() => undefined);
}
