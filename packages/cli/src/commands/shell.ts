import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { requireSandboxId } from "../sandbox-argument.ts";
import { explainEnd } from "../terminal/explain-end.ts";
import { openShell } from "../terminal/open-shell.ts";

/** `caisson shell`. */
export function addShellCommand(program: Command): void {
  const command = program
    .command("shell")
    .description("Open an interactive terminal in a sandbox")
    .argument("[sandbox-id]", "default: $SANDBOX_ID")
    .option("--cwd <path>", "directory to start in (default: /home/app)")
    .action(
      run(async (context, given: string | undefined, options: { readonly cwd?: string }) => {
        const id = requireSandboxId(given, context.environment);
        if (!context.isInteractive) {
          throw usageError(
            "Cannot open a terminal here: input or output is not one",
            "Without a terminal: caisson exec SANDBOX-ID COMMAND",
          );
        }
        const { client } = await context.connect();
        await using sandbox = await client.sandboxes.connect(id);
        process.exitCode = await explainEnd(client, id, () => openShell(sandbox, options));
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson shell sbx_ord_…", "A shell in a running sandbox; `exit` leaves it and the sandbox goes on"],
    ["caisson create", "A new sandbox with a shell, which ends with it"],
  ]);
}
