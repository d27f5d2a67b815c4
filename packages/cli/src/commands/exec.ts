import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import { addCommonOptions, addExamples, createContext } from "../define.ts";
import { takeSandboxId } from "../sandbox-argument.ts";
import { runCommand } from "../terminal/run-command.ts";

/** `caisson exec`. */
export function addExecCommand(program: Command): void {
  const command = program
    .command("exec")
    .description("Run a shell command in a sandbox: input, output, signals and exit code pass through")
    .usage("[options] [sandbox-id] <command...>")
    .argument("[words...]", "the sandbox's id (default: $SANDBOX_ID), then the command")
    .option("--cwd <path>", "working directory (default: /home/app)")
    .passThroughOptions()
    .action(async (words: string[]) => {
      const { id, words: text } = readWords(command, words);
      const context = createContext(command);
      const { client } = await context.connect();
      await using sandbox = await client.sandboxes.connect(id);
      process.exitCode = await runCommand(sandbox, text, context.output, command.opts<{ cwd?: string }>());
    });
  addCommonOptions(command);
  addExamples(command, [
    ["caisson exec sbx_ord_… ls -la /data", "Run a command"],
    ["caisson exec sbx_ord_… --cwd /app 'npm ci && npm test'", "Quote what the shell in the sandbox is to read"],
    ["tar c src | caisson exec sbx_ord_… tar x -C /app", "Pipes work at full speed"],
  ]);
}

/** Options may stand before the id and between id and command; what follows the command's first word is the command's. */
function readWords(
  command: Command,
  words: readonly string[],
): { readonly id: string; readonly words: readonly string[] } {
  const { id, rest } = takeSandboxId(words, process.env);
  const { operands, unknown } = command.parseOptions([...rest]);
  const [option] = unknown;
  if (operands.length === 0 && option !== undefined)
    throw usageError(`Unknown option '${option}'`, "Add --help to see the options.");
  const text = [...operands, ...unknown];
  if (text.length === 0) throw usageError("No command given", "caisson exec SANDBOX-ID COMMAND...");
  return { id, words: text };
}
