import { formatSize } from "@caisson/model";
import type { Client, SnapshotVerification } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import type { Column } from "../output/table.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";
import { withSuggestion } from "../with-suggestion.ts";

const COLUMNS: readonly Column<SnapshotVerification>[] = [
  { title: "ID", value: ({ id }) => id, dropRank: 1 },
  { title: "SLUG", value: ({ slug }) => slug },
  { title: "STORE", value: ({ store }) => store.state },
  { title: "POOL", value: ({ pool }) => pool.state },
  { title: "READ", value: ({ read }) => formatSize(read), isNumeric: true, dropRank: 2 },
];

/** `caisson verify`. */
export function addVerifyCommand(program: Command): void {
  const command = program
    .command("verify")
    .description("Read replicated snapshots whole, in the snapshot store and in their pool, and say what is damaged")
    .argument("[snapshot]", "only this one (default: all of the organization)")
    .action(
      run(async (context, name: string | undefined) => {
        const { client, settings } = await context.connect();
        await withInterrupt(async (signal) => {
          const items: SnapshotVerification[] = [];
          for (const one of name === undefined ? await replicated(client) : [name])
            items.push(await withSuggestion(client, "snapshot", one, () => client.snapshots.verify(one, { signal })));
          const empty = "No snapshot is in the snapshot store.";
          context.output.list({ items, columns: COLUMNS, id: ({ id }) => id, org: settings.org, empty });
          requireWhole(items);
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson verify", "Everything that is replicated; the exit code is 1 when something is damaged"],
    ["caisson verify root-v1", "One snapshot"],
  ]);
}

async function replicated(client: Client): Promise<readonly string[]> {
  const all = await Array.fromAsync(await client.snapshots.list({ limit: 100 }));
  return all.filter(({ replication }) => replication?.state === "replicated").map(({ id }) => id);
}

function requireWhole(found: readonly SnapshotVerification[]): void {
  const problems = found.flatMap(({ slug, store, pool }) =>
    [store, pool].filter(({ state }) => state === "damaged").map(({ problem }) => `${slug}: ${problem}`),
  );
  if (problems.length === 0) return;
  const hint =
    "Nothing was mended. What is whole in one place can be exported, or be a volume, from there; the server's administrator looks at the disk of the other.";
  throw new CliError("DAMAGED", EXIT.failure, problems.join("\n"), hint);
}
