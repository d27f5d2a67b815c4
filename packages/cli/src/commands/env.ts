import type { Command } from "commander";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { quote } from "../quote.ts";
import { DEFAULT_DATA_DIRECTORY, readCredentials, requireHealthy } from "../server-process/credentials.ts";

/** `caisson env`. */
export function addEnvCommand(program: Command): void {
  const command = program
    .command("env")
    .description("Print export lines with endpoint and token of a server on this machine")
    .option("--data <directory>", "the server's data directory", DEFAULT_DATA_DIRECTORY)
    .action(
      run(async (context, { data }: { readonly data: string }) => {
        const credentials = await readCredentials(data);
        const { endpoint, token } = credentials;
        await requireHealthy(endpoint);
        // The names of the official clients, then Caisson's own: those win, so a stale one must not be left in the shell.
        const variables = {
          DENO_DEPLOY_TOKEN: token,
          DENO_DEPLOY_ENDPOINT: endpoint,
          DENO_SANDBOX_ENDPOINT: endpoint,
          CAISSON_TOKEN: token,
          CAISSON_ENDPOINT: endpoint,
        };
        const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}`);
        context.output.value(lines.join("\n"), credentials);
      }),
    );
  addOutputOptions(command);
  addExamples(command, [
    ['eval "$(caisson env)"', "Use the server from this shell"],
    ["caisson env --data ./data", "One with another data directory"],
  ]);
}
