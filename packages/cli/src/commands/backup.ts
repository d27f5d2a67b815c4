import { formatSize } from "@caisson/model";
import type { Backup, BackupOverview, Client } from "@caisson/sdk";
import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { formatSpan, formatTime } from "../output/format.ts";
import type { Output } from "../output/output.ts";
import type { Column } from "../output/table.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";

const COLUMNS: readonly Column<Backup>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "AT", value: ({ at }) => formatTime(at), dropRank: 2 },
  { title: "AGE", value: ({ at }) => formatSpan(Date.now() - at.getTime()), isNumeric: true },
  { title: "MADE BY", value: ({ automatic }) => (automatic ? "the schedule" : "hand"), dropRank: 1 },
];

/** `caisson backup ...`. */
export function addBackupCommands(program: Command): void {
  const backup = program
    .command("backup")
    .description(
      "Backups of the server's rows in its snapshot store (needs a token of the server's first organization)",
    );
  const create = backup
    .command("create")
    .description("Make a backup now, and wait until all of it is in the store; it stays until it is deleted")
    .action(
      run(async (context) => {
        const { client } = await context.connect();
        await withInterrupt(async (signal) => {
          const made = await client.backups.create({ signal });
          const sizes = `${formatSize(made.size)} of rows, ${formatSize(made.sent)} sent`;
          context.output.confirm(`Made backup ${made.id}: ${sizes}`, made);
        });
      }),
    );
  addCommonOptions(create);
  addExamples(create, [["caisson backup create", "Before an upgrade; the schedule makes others by itself"]]);

  const list = backup
    .command("list")
    .alias("ls")
    .description("List the backups, and say when the newest one is too old or the last try failed")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const overview = await client.backups.list();
        const { output } = context;
        const empty = "No backups.";
        output.list({ items: overview.backups, columns: COLUMNS, id: ({ id }) => id, org: settings.org, empty });
        warnOf(overview, output);
      }),
    );
  addCommonOptions(list);
  addExamples(list, [
    ["caisson backup list", "See how old the newest one is"],
    ["caisson backup list --quiet | head -n 1", "The id of the newest one"],
  ]);

  const remove = backup
    .command("delete")
    .alias("rm")
    .description("Delete a backup; what only it holds leaves the store a day later")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        await client.backups.delete(id);
        context.output.confirm(`Deleted backup ${id}`, { id });
      }),
    );
  addCommonOptions(remove);
  addExamples(remove, [["caisson backup delete 20261127T175200Z-0a1b2c3d", "One that was made by hand"]]);
}

/** Says beside other figures of the server what an administrator must see to. A server without a snapshot store has no backups, and that is no news. */
export async function warnOfBackups(client: Client, output: Output): Promise<void> {
  const { NotSupportedError } = await import("@caisson/sdk");
  try {
    warnOf(await client.backups.list(), output);
  } catch (error) {
    if (error instanceof NotSupportedError) return;
    output.warn(`nobody knows how old the newest backup is: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function warnOf({ problem, error, errorAt }: BackupOverview, output: Output): void {
  if (problem !== null) output.warn(problem);
  if (error !== null)
    output.warn(`the last backup failed${errorAt === null ? "" : ` at ${formatTime(errorAt)}`}: ${error}`);
}
