import { formatSize } from "@caisson/model";
import type { Pool, PoolDisk } from "@caisson/sdk";
import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import type { Column } from "../output/table.ts";
import { warnOfBackups } from "./backup.ts";
import { warnOfStore } from "./snapshot-store.ts";

/** One line of a pool: a part of what is used, or what is left. */
interface Line {
  readonly node: string;
  readonly region: string;
  readonly what: string;
  readonly bytes: number;
  readonly note: string;
}

const NODE_COLUMN: Column<Line> = { title: "NODE", value: ({ node }) => node, dropRank: 2 };
const COLUMNS: readonly Column<Line>[] = [
  { title: "REGION", value: ({ region }) => region },
  { title: "WHAT", value: ({ what }) => what },
  { title: "SIZE", value: ({ bytes }) => formatSize(bytes), isNumeric: true },
  { title: "", value: ({ note }) => note, dropRank: 1 },
];

/** `caisson df`. */
export function addDfCommand(program: Command): void {
  const command = program
    .command("df")
    .description("Show what the storage pools hold and what is left (needs a token of the server's first organization)")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const pools = await client.pools.list();
        const { output } = context;
        const listing = { org: settings.org, empty: "No pools." };
        if (output.isJson || output.isQuiet)
          output.list({ ...listing, items: pools, columns: [], id: ({ region }) => region });
        else {
          const isOneNode = new Set(pools.map(({ node }) => node)).size === 1;
          const columns = isOneNode ? COLUMNS : [NODE_COLUMN, ...COLUMNS];
          output.list({ ...listing, items: pools.flatMap(linesOf), columns, id: ({ what }) => what });
          await warnOfBackups(client, output);
          await warnOfStore(client, output);
        }
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson df", "See what a full pool is full of"],
    ["caisson df --json", "The same in bytes, for programs"],
  ]);
}

function linesOf(pool: Pool): readonly Line[] {
  const { node, region, problem, retentionHours, retentionFloorHours } = pool;
  const line = (what: string, bytes: number, note = ""): Line => ({ node, region, what, bytes, note });
  if (problem !== null) return [line("total", 0, problem)];
  const kept = `kept for ${hours(retentionHours)}, at least ${hours(retentionFloorHours)}; "caisson purge" frees it now`;
  return [
    line("volumes", pool.volumes, "what each holds alone, as measured lately"),
    line("snapshots", pool.snapshots, "the same"),
    line("deleted", pool.deleted, kept),
    line("built-in images", pool.builtIn),
    line("scratch disks", pool.scratch, "free when their sandboxes end"),
    line("shared", pool.shared, "by several of these, and metadata"),
    line("used", pool.used, `${pool.usedPercent} % of what volumes and snapshots can have`),
    line("available", pool.available, "for volumes and snapshots"),
    line("headroom", pool.headroom, "for scratch disks and metadata"),
    line("total", pool.total),
    ...(pool.disks.length === 1 ? [] : pool.disks.map((disk) => line(disk.directory, disk.total, describeDisk(disk)))),
  ];
}

function describeDisk({ problem, storageClass, available, usedPercent }: PoolDisk): string {
  const what = storageClass === "replicated" ? "of this in the replicated pool" : "of this on the disk there";
  return problem ?? `${what}: ${usedPercent} % used, ${formatSize(available)} available`;
}

function hours(count: number): string {
  return count === 1 ? "1 hour" : `${count} hours`;
}
