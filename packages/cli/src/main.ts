import { CommanderError } from "commander";
import { sdkIfLoaded } from "./context.ts";
import { outputInUse } from "./define.ts";
import { describeError } from "./output/describe-error.ts";
import { Output } from "./output/output.ts";
import { buildProgram } from "./program.ts";
import { InterruptedError } from "./terminal/until-interrupted.ts";

/** Exit codes of processes that a signal ended. */
const SIGNAL_EXIT: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/** Entry of the command line: runs one command and ends with its exit code. */
async function main(words: readonly string[]): Promise<number> {
  // A reader that has seen enough, such as `head`, is no reason to complain.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
  try {
    await buildProgram().parseAsync([...words], { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError && isHelp(error)) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof InterruptedError) return SIGNAL_EXIT[error.signal] ?? 1;
    const description = describeError(error, sdkIfLoaded());
    const output = outputInUse() ?? new Output(readOutputFlags(words), process.env);
    output.error(description, error);
    return description.exitCode;
  }
}

/** The framework reports help and version, which it has printed, as errors. */
function isHelp({ code }: CommanderError): boolean {
  return code === "commander.help" || code === "commander.helpDisplayed" || code === "commander.version";
}

/** What was typed may not have been understood, so these are looked for, not parsed. */
function readOutputFlags(words: readonly string[]) {
  const has = (...flags: readonly string[]): boolean => words.some((word) => flags.includes(word));
  return { isJson: has("--json", "-j"), isQuiet: has("--quiet", "-q"), isDebug: has("--debug") };
}

// Standard output and error are written synchronously on Linux, so nothing is lost; an open input must not keep the process.
process.exit(await main(process.argv.slice(2)));
