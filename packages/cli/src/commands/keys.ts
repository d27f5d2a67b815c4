import { readdir, readFile, realpath } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { KeyRotation } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addCommonOptions, addExamples, addOutputOptions, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatCount } from "../output/format.ts";
import type { Output } from "../output/output.ts";
import { DEFAULT_DATA_DIRECTORY } from "../server-process/credentials.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";

const KEY_FILE = "installation.key";
/** The key that comes in its place, from `caisson keys rotate` until `caisson keys finish`. */
const NEXT_KEY_FILE = `${KEY_FILE}.next`;
/** The key that was in its place, while a finish is not at its end. */
const PREVIOUS_KEY_FILE = `${KEY_FILE}.previous`;

/** `caisson keys ...`. */
export function addKeysCommands(program: Command): void {
  const keys = program
    .command("keys")
    .description("The key of this installation, without which nobody can read its snapshot store");
  addExport(keys);
  addRotate(keys);
  addFinish(keys);
}

function addExport(keys: Command): void {
  const command = keys
    .command("export")
    .description("Print the key in use, to be kept where neither this machine nor the snapshot store is")
    .option("--new", "print the new key of a rotation that waits for `caisson keys finish`")
    .option("--data <directory>", "the server's data directory", DEFAULT_DATA_DIRECTORY)
    .action(
      run(async ({ output }, options: { readonly data: string; readonly new?: boolean }) => {
        const directory = join(resolve(options.data), "keys");
        const isNew = options.new === true;
        const key = await (isNew ? readNewKey(directory) : readKey(directory));
        output.value(key, { key });
        const names = await readdir(directory);
        if (isNew)
          output.warn(
            "keep the former key as well until `caisson keys finish` has ended: it stays the one in use until then",
          );
        else if (names.includes(NEXT_KEY_FILE))
          output.warn(
            "a rotation is not finished: this is the key in use. `caisson keys export --new` prints the new one; keep both until `caisson keys finish` has ended",
          );
        else if (names.includes(PREVIOUS_KEY_FILE))
          output.warn(
            "a rotation is not at its end: run `caisson keys finish --key FILE` with this key, from where you keep it",
          );
      }),
    );
  addOutputOptions(command);
  addExamples(command, [
    ["caisson keys export", "Print the key, as the file DATA/keys/installation.key has it"],
    ["caisson keys export --new", "Print the one that `caisson keys rotate` made"],
  ]);
}

function addRotate(keys: Command): void {
  const command = keys
    .command("rotate")
    .description(
      "Make a new key, and wrap with it as well the keys of all organizations in the snapshot store; what these have encrypted stays as it is. The former key stays in use, and both open everything, until `caisson keys finish` (needs a token of the server's first organization)",
    )
    .option("--dry-run", "only open every key in the store with the key in use")
    .action(
      run(async (context, { dryRun = false }: { readonly dryRun?: boolean }) => {
        const { client } = await context.connect();
        const { output } = context;
        await withInterrupt(async (signal) => {
          const rotation = await client.snapshotStore.rotateKey({ dryRun, signal });
          const count = formatCount(rotation.organizationKeys, "key");
          if (rotation.outcome === "checked")
            output.confirm(`The installation key opens ${count} of organizations: it can be rotated`, rotation);
          else tellWaiting(rotation, count, output);
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    [
      "caisson keys rotate",
      "Make a new key; `caisson keys export --new` on the server prints it, to be kept elsewhere",
    ],
    ["caisson keys rotate --dry-run", "See whether every key in the store can be opened"],
  ]);
}

function tellWaiting(rotation: KeyRotation, count: string, output: Output): void {
  output.confirm(
    `The rotation waits for its finish: ${count} of organizations open with the new key as well`,
    rotation,
  );
  output.warn(
    `Keep the new key elsewhere: \`caisson keys export --new\` on the server prints it, from DATA/${rotation.newKeyFile}. Then, with what you keep: \`caisson keys finish --key FILE\`. Until that has ended the former key is the one in use: keep it as well.`,
  );
  output.note(
    `Servers that stand by for this one need the new key too, as DATA/${rotation.newKeyFile}, before that: without it they make no keys for organizations that are new in the store.`,
  );
}

function addFinish(keys: Command): void {
  const command = keys
    .command("finish")
    .description(
      "End a rotation with the new key, read from where you keep it: from then on that is the one in use, and the former one opens nothing in the snapshot store any more. The key does not leave this machine: what is sent proves that you have it (needs a token of the server's first organization)",
    )
    .requiredOption("--key <file>", "what `caisson keys export --new` printed, as you keep it")
    .action(
      run(async (context, { key: path }: { readonly key: string }) => {
        const key = await readKept(path);
        const { client } = await context.connect();
        const { output } = context;
        await withInterrupt(async (signal) => {
          const rotation = await client.snapshotStore.finishKeyRotation({ key, signal });
          const count = formatCount(rotation.organizationKeys, "key");
          output.confirm(`Finished the rotation: ${count} of organizations open with the new key alone`, rotation);
          output.note("Servers that stand by for this one have it in use once they lead, if they have it.");
          if (rotation.formerKeyFile !== null)
            output.note(
              `The former key lies in DATA/${rotation.formerKeyFile}: copies of the store from before need it, the store does not.`,
            );
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson keys finish --key /media/safe/caisson.key", "Show that the new key is kept, and use it from now on"],
    ["pass show caisson-key | caisson keys finish --key /dev/stdin", "The same, out of a password manager"],
  ]);
}

/** What somebody keeps. Throws for the server's own file, which proves nothing of a copy elsewhere. */
async function readKept(path: string): Promise<string> {
  const text = await readText(path, "Name the file in which you keep what `caisson keys export --new` printed.");
  if (!/^caisson-key-1:[0-9a-f]{64}$/.test(text))
    throw new CliError(
      "INVALID_KEY",
      EXIT.usage,
      `There is no installation key in ${path}`,
      "Give a file with what `caisson keys export --new` printed on the server: caisson-key-1:…",
    );
  // What stands in for a pipe has no path of its own.
  const real = await realpath(path).catch(() => path);
  if (basename(real) !== NEXT_KEY_FILE) return text;
  throw new CliError(
    "INVALID_KEY",
    EXIT.usage,
    `${path} is the server's own file, which is lost with its disk`,
    "Keep what `caisson keys export --new` prints where neither the server nor the snapshot store is, and give that.",
  );
}

function readKey(directory: string): Promise<string> {
  const hint = "A server makes it when it starts with a snapshot store in its settings; --data names its directory.";
  return readText(join(directory, KEY_FILE), hint);
}

function readNewKey(directory: string): Promise<string> {
  const hint = "No rotation waits for its finish here: `caisson keys rotate` begins one; --data names the directory.";
  return readText(join(directory, NEXT_KEY_FILE), hint);
}

/** `hint`: what to do where there is no such file. */
async function readText(path: string, hint: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EACCES")
      throw new CliError(
        "NOT_ALLOWED",
        EXIT.authentication,
        `Cannot read ${path}: permission denied`,
        "Run the command as a user who may read it, for example with sudo.",
      );
    if (code !== "ENOENT") throw error;
    throw new CliError("NO_KEY", EXIT.notFound, `There is no installation key: ${path} does not exist`, hint);
  }
}
