import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { requireSandboxId, takeSandboxId } from "../sandbox-argument.ts";
import { runSsh } from "../ssh/run-ssh.ts";

/** `caisson ssh`. */
export function addSshCommand(program: Command): void {
  const command = program
    .command("ssh")
    .description("Run the system's ssh into a sandbox")
    .usage("[options] [sandbox-id] [command...]")
    .argument("[words...]", "the sandbox's id (default: $SANDBOX_ID), then a command for ssh")
    .passThroughOptions()
    .action(
      run(async (context, words: readonly string[]) => {
        const { id, rest } = takeSandboxId(words, context.environment);
        const { client } = await context.connect();
        process.exitCode = await runSsh(context, client, id, rest);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson ssh sbx_ord_…", "A login shell"],
    ["caisson ssh sbx_ord_… 'cd /app && npm test'", "A command; its exit code is ssh's"],
  ]);
}

/** `caisson ssh-revoke`. */
export function addSshRevokeCommand(program: Command): void {
  const command = program
    .command("ssh-revoke")
    .description("End every SSH user name of a sandbox, and the connections by them; keys still log in")
    .argument("[sandbox-id]", "default: $SANDBOX_ID")
    .action(
      run(async (context, given: string | undefined) => {
        const id = requireSandboxId(given, context.environment);
        const { client } = await context.connect();
        await client.ssh.revoke(id);
        context.output.confirm(`Revoked the SSH user names of ${id}`, { id });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson ssh-revoke sbx_ord_…", "Close what exposeSsh has opened"]]);
}
