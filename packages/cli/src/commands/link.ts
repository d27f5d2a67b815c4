import { dirname } from "node:path";
import type { Command } from "commander";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { DEFAULT_LINK_DIRECTORY, linkLauncher, unlinkLauncher } from "../server-process/launcher-link.ts";

interface LinkFlags {
  readonly directory: string;
  readonly remove?: boolean;
}

/** `caisson link`. */
export function addLinkCommand(program: Command): void {
  const command = program
    .command("link")
    .description("Put `caisson` on the PATH: a symbolic link to this copy of it. Never replaces another program")
    .option("--directory <directory>", "where to put it", DEFAULT_LINK_DIRECTORY)
    .option("--remove", "remove the link again")
    .action(
      run(async ({ output, environment }, { directory, remove }: LinkFlags) => {
        if (remove) {
          const { path, isRemoved } = await unlinkLauncher(directory);
          output.confirm(isRemoved ? `Removed ${path}` : `There is no ${path}`, { path, isRemoved });
          return;
        }
        const { path, isNew } = await linkLauncher(directory);
        output.confirm(isNew ? `Made ${path}` : `${path} is there already`, { path, isNew });
        const isFound = (environment.PATH ?? "").split(":").includes(dirname(path));
        if (!isFound) output.warn(`${dirname(path)} is not on your PATH`);
      }),
    );
  addOutputOptions(command);
  addExamples(command, [
    ["caisson link", `Make ${DEFAULT_LINK_DIRECTORY}/caisson`],
    ["caisson link --directory ~/.local/bin", "For one user, without root"],
    ["caisson link --remove", "Take it away"],
  ]);
}
