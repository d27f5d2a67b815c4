import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type { SshKey } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { loadSdk } from "../context.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime } from "../output/format.ts";
import { problemOf } from "../output/system-error.ts";
import type { Column } from "../output/table.ts";

const COLUMNS: readonly Column<SshKey>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "NAME", value: ({ name }) => name },
  { title: "FINGERPRINT", value: ({ fingerprint }) => fingerprint, dropRank: 2 },
  { title: "TYPE", value: ({ type }) => type, dropRank: 3 },
  { title: "CREATED", value: ({ createdAt }) => formatTime(createdAt), dropRank: 1 },
];

/** `caisson ssh-keys ...`. */
export function addSshKeysCommands(program: Command): void {
  const keys = program
    .command("ssh-keys")
    .alias("ssh-key")
    .description("Public keys that may log in to the organization's sandboxes by SSH");
  const add = keys
    .command("add")
    .description("Let a public key log in to every sandbox, as `ssh SANDBOX-ID@host`, and print its id")
    .argument("<file>", "its .pub file, or - for standard input")
    .option("--name <name>", "what to call it (default: the comment in the file)")
    .action(
      run(async (context, file: string, { name }: { readonly name?: string }) => {
        const publicKey = await readKey(file);
        const { client } = await context.connect();
        const key = await client.sshKeys.add({ publicKey, ...(name === undefined ? {} : { name }) });
        context.output.value(key.id, key);
        context.output.note(`${key.name}: ${key.fingerprint}`);
      }),
    );
  addCommonOptions(add);
  addExamples(add, [
    ["caisson ssh-keys add ~/.ssh/id_ed25519.pub", "Your own key"],
    ["curl -s https://github.com/octocat.keys | head -1 | caisson ssh-keys add - --name octocat", "From elsewhere"],
  ]);

  const list = keys
    .command("list")
    .alias("ls")
    .description("List the keys")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const items = await client.sshKeys.list();
        const empty = "No SSH keys. Add one: caisson ssh-keys add ~/.ssh/id_ed25519.pub";
        context.output.list({ items, columns: COLUMNS, id: ({ id }) => id, org: settings.org, empty });
      }),
    );
  addCommonOptions(list);
  addExamples(list, [["caisson ssh-keys list", "Find the id of a key to remove"]]);

  const remove = keys
    .command("remove")
    .aliases(["rm", "delete"])
    .description("Remove a key at once, and end the connections by it")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        await client.sshKeys.remove(id).catch(async (error: unknown) => {
          const { NotFoundError } = await loadSdk();
          if (!(error instanceof NotFoundError)) throw error;
          const hint = "List them with their ids: caisson ssh-keys list";
          throw new CliError("SSH_KEY_NOT_FOUND", EXIT.notFound, `There is no SSH key ${JSON.stringify(id)}`, hint);
        });
        context.output.confirm(`Removed key ${id}`, { id });
      }),
    );
  addCommonOptions(remove);
  addExamples(remove, [["caisson ssh-keys remove key_…", "Remove by id"]]);
}

async function readKey(file: string): Promise<string> {
  try {
    return await (file === "-" ? text(process.stdin) : readFile(file, "utf8"));
  } catch (cause) {
    const problem = problemOf(cause) ?? String(cause);
    const hint = "Make a key with: ssh-keygen -t ed25519";
    throw new CliError("NO_KEY", EXIT.usage, `Cannot read ${file}: ${problem}`, hint, { cause });
  }
}
