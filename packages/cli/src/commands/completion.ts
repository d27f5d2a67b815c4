import { Argument, type Command } from "commander";
import { findCandidates } from "../completion/candidates.ts";
import { listNames } from "../completion/names.ts";
import { COMPLETION_SCRIPTS, type Shell } from "../completion/scripts.ts";
import { addExamples, run } from "../define.ts";
import { printable } from "../output/printable.ts";

/** `caisson completion`, and the hidden command that the shells ask. */
export function addCompletionCommands(program: Command): void {
  const command = program
    .command("completion")
    .description("Print what a shell loads to complete commands and options")
    .addArgument(new Argument("<shell>").choices(Object.keys(COMPLETION_SCRIPTS)))
    .action((shell: Shell) => {
      process.stdout.write(COMPLETION_SCRIPTS[shell]);
    });
  addExamples(command, [
    ['eval "$(caisson completion bash)"', "In ~/.bashrc"],
    ['eval "$(caisson completion zsh)"', "In ~/.zshrc, after compinit"],
    ["caisson completion fish > ~/.config/fish/completions/caisson.fish", "Once, for fish"],
  ]);

  program
    .command("__complete", { hidden: true })
    .argument("[words...]")
    .action(
      run(async (context, words: readonly string[]) => {
        const { words: found, isFile, names } = findCandidates(program, words);
        // A shell has no place for an error at this moment: without a server there are just no names.
        const named = names === null ? [] : await listNames(context, names).catch(() => []);
        const lines = [...found, ...named].map(
          ({ value, description }) => `${printable(value)}\t${printable(description)}`,
        );
        process.stdout.write([...lines, ...(isFile ? [":files"] : [])].map((line) => `${line}\n`).join(""));
      }),
    );
}
