import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { requireSandboxId } from "../sandbox-argument.ts";

/** `caisson kill`. */
export function addKillCommand(program: Command): void {
  const command = program
    .command("kill")
    .aliases(["remove", "rm"])
    .description("End a sandbox; its volumes are durable and free afterwards")
    .argument("[sandbox-id]", "default: $SANDBOX_ID")
    .action(
      run(async (context, given: string | undefined) => {
        const id = requireSandboxId(given, context.environment);
        const { client } = await context.connect();
        await client.sandboxes.kill(id);
        context.output.confirm(`Killed sandbox ${id}`, { id });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson kill sbx_ord_…", "End one sandbox"],
    ["caisson list --quiet --running --label job=nightly | xargs -n1 caisson kill", "End several"],
  ]);
}
