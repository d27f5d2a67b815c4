import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addCommonOptions, addExamples, addOutputOptions, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatCount } from "../output/format.ts";
import { DEFAULT_DATA_DIRECTORY } from "../server-process/credentials.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";

const KEY_FILE = "installation.key";
/** What a rotation that was cut off leaves beside the key. */
const UNFINISHED = [`${KEY_FILE}.next`, `${KEY_FILE}.previous`];

/** `caisson keys ...`: for the server of this machine. */
export function addKeysCommands(program: Command): void {
  const keys = program
    .command("keys")
    .description("The key of this installation, without which nobody can read its snapshot store");
  addExport(keys);
  addRotate(keys);
}

function addExport(keys: Command): void {
  const command = keys
    .command("export")
    .description("Print the key, to be kept where neither this machine nor the snapshot store is")
    .option("--data <directory>", "the server's data directory", DEFAULT_DATA_DIRECTORY)
    .action(
      run(async (context, { data }: { readonly data: string }) => {
        const directory = join(resolve(data), "keys");
        const key = await readKey(join(directory, KEY_FILE));
        context.output.value(key, { key });
        if ((await readdir(directory)).some((name) => UNFINISHED.includes(name)))
          context.output.warn(
            "a rotation of the key was cut off: run `caisson keys rotate` to finish it, and export the key again",
          );
      }),
    );
  addOutputOptions(command);
  addExamples(command, [["caisson keys export", "Print the key, as the file DATA/keys/installation.key has it"]]);
}

function addRotate(keys: Command): void {
  const command = keys
    .command("rotate")
    .description(
      "Make a new key, and wrap with it the keys of all organizations in the snapshot store; what these have encrypted stays as it is. Afterwards the key that you kept elsewhere is of no use: until you have run `caisson keys export` on the server, losing its disk loses the store (needs a token of the server's first organization)",
    )
    .option("--dry-run", "only open every key in the store with the key that there is")
    .action(
      run(async (context, { dryRun = false }: { readonly dryRun?: boolean }) => {
        const { client } = await context.connect();
        await withInterrupt(async (signal) => {
          const rotation = await client.snapshotStore.rotateKey({ dryRun, signal });
          const count = formatCount(rotation.organizationKeys, "key");
          const { output } = context;
          if (rotation.outcome === "checked") {
            output.confirm(`The installation key opens ${count} of organizations: it can be rotated`, rotation);
            output.note("Rotate it where you can run `caisson keys export` on the server right after.");
            return;
          }
          const isFinished = rotation.outcome === "finished";
          const done = isFinished ? "Finished the rotation that was cut off" : "Rotated the installation key";
          output.confirm(`${done}: ${count} of organizations wrapped with the new one alone`, rotation);
          output.warn(
            "Keep the new key elsewhere, now: `caisson keys export` on the server. The key that you kept before opens nothing in the store any more, and the new one lies on the server's disk alone: if that is lost first, everything replicated and every backup is lost with it.",
          );
          output.note(
            "Servers that stand by for this one need it too, as DATA/keys/installation.key, before they take over.",
          );
          output.note(
            `The former key lies in DATA/${rotation.formerKeyFile}: copies of the store from before need it, the store does not.`,
          );
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson keys rotate && caisson keys export", "Make a new key, and print it, to be kept elsewhere"],
    ["caisson keys rotate --dry-run", "See whether every key in the store can be opened"],
  ]);
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
