import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { DEFAULT_DATA_DIRECTORY } from "../server-process/credentials.ts";

/** `caisson keys ...`: for the server of this machine. */
export function addKeysCommands(program: Command): void {
  const keys = program
    .command("keys")
    .description("The key of this installation, without which nobody can read its snapshot store");
  const command = keys
    .command("export")
    .description("Print the key, to be kept where neither this machine nor the snapshot store is")
    .option("--data <directory>", "the server's data directory", DEFAULT_DATA_DIRECTORY)
    .action(
      run(async (context, { data }: { readonly data: string }) => {
        const key = await readKey(join(resolve(data), "keys", "installation.key"));
        context.output.value(key, { key });
      }),
    );
  addOutputOptions(command);
  addExamples(command, [["caisson keys export", "Print the key, as the file DATA/keys/installation.key has it"]]);
}

async function readKey(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EACCES") {
      const hint = "Run the command as the server's user, for example with sudo.";
      throw new CliError("NOT_ALLOWED", EXIT.authentication, `Cannot read ${path}: permission denied`, hint);
    }
    if (code !== "ENOENT") throw error;
    const hint = "A server makes it when it starts with a snapshot store in its settings; --data names its directory.";
    throw new CliError("NO_KEY", EXIT.notFound, `There is no installation key: ${path} does not exist`, hint);
  }
}
