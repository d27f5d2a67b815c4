import type { ExitCode } from "./exit-codes.ts";

/** A failure that the command line finds out by itself, with what the person at the keyboard can do about it. */
export class CliError extends Error {
  /** For programs, in the form of the API's codes. */
  readonly code: string;
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;

  constructor(
    code: string,
    exitCode: ExitCode,
    message: string,
    hint?: string,
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
    this.name = "CliError";
    this.code = code;
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

/** A mistake in what was typed. */
export function usageError(message: string, hint?: string): CliError {
  return new CliError("USAGE", 2, message, hint);
}
