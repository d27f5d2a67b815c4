import { Argument, type Command } from "commander";
import { findCandidates } from "../completion/candidates.ts";
import { COMPLETION_SCRIPTS, type Shell } from "../completion/scripts.ts";
import { addExamples } from "../define.ts";

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
    .action((words: string[]) => {
      const { words: found, isFile } = findCandidates(program, words);
      const lines = found.map(({ value, description }) => `${value}\t${description}`);
      process.stdout.write([...lines, ...(isFile ? [":files"] : [])].map((line) => `${line}\n`).join(""));
    });
}
