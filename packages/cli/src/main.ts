import { CommanderError } from "commander";
import { sdkIfLoaded } from "./context.ts";
import { isHelp, outputInUse } from "./define.ts";
import { EXIT, exitCodeOfSignal } from "./exit-codes.ts";
import { describeError } from "./output/describe-error.ts";
import { Output } from "./output/output.ts";
import { BrokenPipeError, flushOutputs, watchOutputs } from "./output/standard-outputs.ts";
import { buildProgram } from "./program.ts";
import { NotRunError } from "./terminal/not-run-error.ts";
import { InterruptedError } from "./terminal/until-interrupted.ts";

/** Entry of the command line: runs one command and returns its exit code, with everything printed. */
async function main(words: readonly string[]): Promise<number> {
  watchOutputs();
  try {
    await buildProgram().parseAsync([...words], { from: "user" });
    return await finish(Number(process.exitCode ?? EXIT.ok));
  } catch (error) {
    if (error instanceof CommanderError && isHelp(error))
      return await finish(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
    if (error instanceof InterruptedError) return exitCodeOfSignal(error.signal);
    if (error instanceof BrokenPipeError) return exitCodeOfSignal("SIGPIPE");
    const code = report(words, error);
    return await finish(code);
  }
}

/** Shows an error and returns its exit code. */
function report(words: readonly string[], error: unknown): number {
  const cause = error instanceof NotRunError ? error.cause : error;
  const description = describeError(cause, sdkIfLoaded());
  const output = outputInUse() ?? new Output(readOutputFlags(words), process.env);
  output.error(description, cause);
  return error instanceof NotRunError ? error.exitCode : description.exitCode;
}

/** Waits for slow readers. The exit code stays unless it was success and not everything could be printed. */
async function finish(code: number): Promise<number> {
  try {
    await flushOutputs();
    return code;
  } catch (error) {
    if (code !== EXIT.ok) return code;
    return error instanceof BrokenPipeError ? exitCodeOfSignal("SIGPIPE") : report([], error);
  }
}

/** What was typed may not have been understood, so these are looked for, not parsed. */
function readOutputFlags(words: readonly string[]) {
  const has = (...flags: readonly string[]): boolean => words.some((word) => flags.includes(word));
  return { isJson: has("--json", "-j"), isQuiet: has("--quiet", "-q"), isDebug: has("--debug") };
}

// An open input or connection must not keep the process.
process.exit(await main(process.argv.slice(2)));
