import type { Duration } from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { warnIfShorter } from "../lifetime.ts";
import { formatSpan } from "../output/format.ts";
import { takeSandboxId } from "../sandbox-argument.ts";

/** `caisson extend`. */
export function addExtendCommand(program: Command): void {
  const command = program
    .command("extend")
    .description("Let a sandbox live at least as long as given from now, at most 30 minutes")
    .usage("[options] [sandbox-id] <timeout>")
    .argument("[words...]", "the sandbox's id (default: $SANDBOX_ID), then the time: 90s or 20m")
    .action(
      run(async (context, words: readonly string[]) => {
        const { id, rest } = takeSandboxId(words, context.environment);
        const [timeout, extra] = rest;
        if (timeout === undefined || extra !== undefined) throw usageError("Give one timeout, for example 20m");
        const { client } = await context.connect();
        const startMs = Date.now();
        const stopAt = await client.sandboxes.extendTimeout(id, timeout as Duration);
        const span = formatSpan(stopAt.getTime() - Date.now());
        const time = stopAt.toISOString();
        warnIfShorter(context.output, startMs, stopAt, timeout);
        context.output.value(context.output.isQuiet ? time : `Sandbox ${id} lives until ${time} (in ${span})`, {
          id,
          stopAt,
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson extend sbx_ord_… 20m", "Twenty minutes from now"],
    ["SANDBOX_ID=sbx_ord_… caisson extend 90s", "With the id from the environment"],
  ]);
}
