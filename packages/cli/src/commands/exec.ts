import type { Command, CommanderError } from "commander";
import { usageError } from "../cli-error.ts";
import { addCommonOptions, addExamples, createContext, isHelp } from "../define.ts";
import { takeSandboxId } from "../sandbox-argument.ts";
import { explainEnd } from "../terminal/explain-end.ts";
import { asProgram, NotRunError } from "../terminal/not-run-error.ts";
import { openShell } from "../terminal/open-shell.ts";
import { isSeparated, type Program, readProgram } from "../terminal/program.ts";
import { runCommand } from "../terminal/run-command.ts";

interface ExecFlags {
  readonly cwd?: string;
  readonly tty?: boolean;
}

/** `caisson exec`. */
export function addExecCommand(program: Command): void {
  const command = program
    .command("exec")
    .description("Run a program in a sandbox: input, output, signals and exit code pass through")
    .usage("[options] [sandbox-id] [--] <command...>")
    .argument("[words...]", "the sandbox's id (default: $SANDBOX_ID), then the command")
    .option("--cwd <path>", "working directory (default: /home/app)")
    .option("-t, --tty", "run it on a terminal in the sandbox, as `caisson shell` runs a shell")
    .option("-i, --interactive", "pass the input on; so it is without this option, too")
    .passThroughOptions()
    .exitOverride((error: CommanderError) => {
      throw isHelp(error) ? error : new NotRunError(error);
    })
    .action(async (words: string[]) => {
      process.exitCode = await asProgram(() => exec(command, words));
    });
  addCommonOptions(command);
  addExamples(command, [
    ["caisson exec sbx_ord_… ls -la /data", "Several words are a program and its arguments, as they stand"],
    ["caisson exec sbx_ord_… --cwd /app 'npm ci && npm test'", "One word is a line for the shell in the sandbox"],
    ["caisson exec sbx_ord_… -- ./my-program", "Behind -- even one word is a program, without a shell"],
    ["caisson exec -it sbx_ord_… python3", "On a terminal"],
    ["tar c src | caisson exec sbx_ord_… tar x -C /app", "Pipes work at full speed"],
  ]);
}

async function exec(command: Command, words: readonly string[]): Promise<number> {
  const { id, program } = readWords(command, words);
  const context = createContext(command);
  const { cwd, tty } = command.opts<ExecFlags>();
  if (tty && !context.isInteractive) {
    throw usageError("Cannot give the program a terminal: input or output is not one", "Leave out --tty.");
  }
  const { client } = await context.connect();
  await using sandbox = await client.sandboxes.connect(id);
  return await explainEnd(client, id, () =>
    tty ? openShell(sandbox, { cwd, program }) : runCommand(sandbox, program, context.output, { cwd }),
  );
}

/** Options may stand before the id and between id and command; what follows the command's first word is the command's. */
function readWords(command: Command, words: readonly string[]): { readonly id: string; readonly program: Program } {
  const isAllSeparated = isSeparated(process.argv, words);
  const { id, rest } = takeSandboxId(words, process.env);
  const { operands, unknown } = isAllSeparated ? { operands: rest, unknown: [] } : command.parseOptions([...rest]);
  const [option] = unknown;
  if (operands.length === 0 && option !== undefined)
    throw usageError(`Unknown option '${option}'`, "Add --help to see the options.");
  const text = [...operands, ...unknown];
  if (text.length === 0) throw usageError("No command given", "caisson exec SANDBOX-ID COMMAND...");
  return { id, program: readProgram(text, isAllSeparated || isSeparated(rest, text)) };
}
