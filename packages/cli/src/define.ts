import { type Command, type CommanderError, Option } from "commander";
import { asCalled } from "./called-as.ts";
import { type CommonFlags, Context } from "./context.ts";
import { Output } from "./output/output.ts";

/** A line of help: what to type, and what it does. */
export type Example = readonly [command: string, description: string];

const COMMON_OPTIONS: readonly (readonly [flags: string, description: string])[] = [
  ["--token <token>", "access token (default: CAISSON_TOKEN, DENO_DEPLOY_TOKEN, then the saved one)"],
  ["--org <name>", "organization (default: CAISSON_ORG, DENO_DEPLOY_ORG, then the saved one)"],
  ["--endpoint <url>", "server (default: CAISSON_ENDPOINT, DENO_DEPLOY_ENDPOINT, then the saved one)"],
  ["--config <path>", "file with saved servers and tokens (default: CAISSON_CONFIG)"],
];
const OUTPUT_OPTIONS: readonly (readonly [flags: string, description: string])[] = [
  ["-j, --json", "print one JSON object"],
  ["-q, --quiet", "print only what scripts need"],
];

/** Adds the options of every command that talks to a server. They are accepted before the command's name, too. */
export function addCommonOptions(command: Command): Command {
  addOutputOptions(command);
  const nonInteractive = new Option("-y, --non-interactive", "never open a terminal session").helpGroup(
    "Common options:",
  );
  command
    .addOption(nonInteractive)
    .addOption(new Option("--debug", "show the details of errors").helpGroup("Common options:"));
  for (const [flags, description] of COMMON_OPTIONS) {
    command.addOption(new Option(flags, description).helpGroup("Common options:"));
  }
  return command;
}

export function addOutputOptions(command: Command): Command {
  for (const [flags, description] of OUTPUT_OPTIONS) {
    command.addOption(new Option(flags, description).helpGroup("Common options:"));
  }
  return command;
}

/** Adds examples below the help of a command. */
export function addExamples(command: Command, examples: readonly Example[]): Command {
  const text = examples.map(([line, description]) => `  # ${description}\n  ${asCalled(line)}`).join("\n\n");
  return command.addHelpText("after", `\nExamples:\n${text}`);
}

/**
 * Wraps a command's function for the framework: it is called with a context made from the options at every level, then the arguments,
 * then the command's own options.
 */
export function run<A extends readonly unknown[]>(
  handler: (context: Context, ...parameters: A) => Promise<void>,
): (...parameters: unknown[]) => Promise<void> {
  return async (...parameters) => {
    const command = parameters.pop() as Command;
    await handler(createContext(command), ...(parameters as unknown as A));
  };
}

let latestOutput: Output | undefined;

/** The output of the command that began to run, for errors; `undefined` while what was typed is not understood yet. */
export function outputInUse(): Output | undefined {
  return latestOutput;
}

/** The innermost level wins: `caisson --org a list --org b` means b. */
export function createContext(command: Command): Context {
  const levels: Command[] = [];
  for (let level: Command | null = command; level !== null; level = level.parent) levels.unshift(level);
  const flags: CommonFlags = Object.assign({}, ...levels.map((level) => level.opts()));
  const { json = false, quiet = false, debug = false } = flags;
  latestOutput = new Output({ isJson: json, isQuiet: quiet, isDebug: debug }, process.env);
  return new Context(latestOutput, flags, process.env);
}

/** The framework reports help and version, which it has printed, as errors. */
export function isHelp({ code }: CommanderError): boolean {
  return code === "commander.help" || code === "commander.helpDisplayed" || code === "commander.version";
}

/** Collects the values of an option that may be given several times. */
export function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value];
}
