import { EXIT, type ExitCode } from "../exit-codes.ts";
import { BrokenPipeError } from "../output/standard-outputs.ts";
import { InterruptedError } from "./until-interrupted.ts";

/** A failure of Caisson's own in a command that otherwise ends with the exit code of the program that it runs. `cause` is shown. */
export class NotRunError extends Error {
  readonly exitCode: ExitCode;

  constructor(cause: unknown, exitCode: ExitCode = EXIT.notRun) {
    super("The program was not run to its end", { cause });
    this.name = "NotRunError";
    this.exitCode = exitCode;
  }
}

/** Runs the action of such a command: its failures get an exit code that programs do not use. */
export async function asProgram<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const isOwn = [NotRunError, BrokenPipeError, InterruptedError].every((type) => !(error instanceof type));
    throw isOwn ? new NotRunError(error) : error;
  }
}
