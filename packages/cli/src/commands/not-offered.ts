import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addCommonOptions } from "../define.ts";
import { EXIT } from "../exit-codes.ts";

/** Commands of `deno sandbox` that Caisson does not offer yet: they say so and name the way that exists. */
const NOT_OFFERED = [
  {
    name: "deploy",
    description: "Not offered yet: deploying a sandbox as an app",
    hint: "To keep what a sandbox made, write it to a volume: caisson create --volume NAME:/data",
  },
] as const;

export function addNotOfferedCommands(program: Command): void {
  for (const { name, description, hint } of NOT_OFFERED) {
    const command = program
      .command(name)
      .description(description)
      .argument("[arguments...]")
      .allowUnknownOption()
      .action(() => {
        throw notOffered(`caisson ${name}`, hint);
      });
    addCommonOptions(command);
  }
}

/** The error for something that `deno sandbox` has and Caisson does not. */
export function notOffered(what: string, hint: string): CliError {
  return new CliError("NOT_SUPPORTED", EXIT.failure, `\`${what}\` is not there yet`, hint);
}
