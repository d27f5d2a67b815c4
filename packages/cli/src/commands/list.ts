import type { SandboxMetadata } from "@caisson/sdk";
import type { Command } from "commander";
import { addCommonOptions, addExamples, collect, run } from "../define.ts";
import { formatSpan, formatTime } from "../output/format.ts";
import type { Column } from "../output/table.ts";
import { parsePairs } from "../parse-pairs.ts";

const COLUMNS: readonly Column<SandboxMetadata>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "CREATED", value: ({ createdAt }) => formatTime(createdAt), dropRank: 4 },
  { title: "REGION", value: ({ region }) => region, dropRank: 5 },
  { title: "STATUS", value: ({ status }) => status, dropRank: 1 },
  { title: "UPTIME", value: formatUptime, isNumeric: true, dropRank: 3 },
  { title: "ENDS IN", value: formatRemaining, isNumeric: true, dropRank: 2 },
];

/** Where there are several machines. */
const NODE_COLUMN: Column<SandboxMetadata> = { title: "NODE", value: ({ node }) => node ?? "-", dropRank: 6 };

/** `caisson list`. */
export function addListCommand(program: Command): void {
  const command = program
    .command("list")
    .alias("ls")
    .description("List running sandboxes and those that stopped lately")
    .option("--running", "only those that run")
    .option("--nodes", "show the node of each")
    .option("--label <key=value>", "only those with this label (repeatable)", collect)
    .action(
      run(
        async (
          context,
          options: { readonly label?: readonly string[]; readonly nodes?: boolean; readonly running?: boolean },
        ) => {
          const { client, settings } = await context.connect();
          const labels = parsePairs("--label", options.label ?? []);
          const all = await client.sandboxes.list({ labels });
          const items = options.running ? all.filter(({ status }) => status === "running") : all;
          const empty = "No sandboxes. Create one: caisson create --timeout 10m";
          const columns = options.nodes ? [...COLUMNS, NODE_COLUMN] : COLUMNS;
          context.output.list({ items, columns, id: ({ id }) => id, org: settings.org, empty });
        },
      ),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson list", "Show all sandboxes"],
    ["caisson list --running --label job=nightly --quiet", "Print only the ids of those with a label that run"],
  ]);
}

/** `-` for a sandbox that has ended, and for one that lives as long as the command or program that created it. */
function formatRemaining({ stopAt, stoppedAt }: SandboxMetadata): string {
  return stopAt === null || stoppedAt !== null ? "-" : formatSpan(stopAt.getTime() - Date.now());
}

/** Until now, or until it stopped. */
function formatUptime({ createdAt, stoppedAt }: SandboxMetadata): string {
  return formatSpan((stoppedAt ?? new Date()).getTime() - createdAt.getTime());
}
