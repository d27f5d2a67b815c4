import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { problemOf } from "./system-error.ts";

/** What first went wrong with each output. */
const failures = new Map<NodeJS.WriteStream, NodeJS.ErrnoException>();

/** Remembers what goes wrong with the outputs, so that a reader that has seen enough, such as `head`, does not raise an exception. */
export function watchOutputs(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (!failures.has(stream)) failures.set(stream, error);
    });
  }
}

/**
 * Resolves when everything that was printed has been taken over by the kernel. A pipe takes 64 KiB; what a slow reader has not fetched
 * yet waits in this process, and would be lost with it. Throws {@linkcode BrokenPipeError} when the reader of standard output is gone.
 */
export async function flushOutputs(): Promise<void> {
  // Nobody is left to complain to about standard error.
  const [failure] = await Promise.all([flush(process.stdout), flush(process.stderr)]);
  if (failure === null) return;
  if (failure.code === "EPIPE") throw new BrokenPipeError();
  throw outputFailed(failure);
}

/** The error for an output that takes no more, such as a file on a full disk. */
export function outputFailed(cause: NodeJS.ErrnoException): CliError {
  const problem = problemOf(cause) ?? cause.message;
  return new CliError("OUTPUT_FAILED", EXIT.failure, `Cannot write the output: ${problem}`, undefined, { cause });
}

/** The callback of a write is called when all writes before it are done, or have failed; then also before the event "error". */
async function flush(stream: NodeJS.WriteStream): Promise<NodeJS.ErrnoException | null> {
  const { promise, resolve } = Promise.withResolvers<Error | null | undefined>();
  stream.write("", resolve);
  const failure = await promise;
  return failures.get(stream) ?? failure ?? null;
}

/** The reader of standard output went away before the end. Programs end by SIGPIPE then, and say nothing. */
export class BrokenPipeError extends Error {
  constructor() {
    super("The reader of standard output is gone");
    this.name = "BrokenPipeError";
  }
}
