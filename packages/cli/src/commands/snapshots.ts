import { formatSize } from "@caisson/model";
import type { Snapshot } from "@caisson/sdk";
import type { Command } from "commander";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { describeFetch } from "../fetch-progress.ts";
import { formatBoolean, formatExclusive, formatInodes, formatMeasured, formatTime } from "../output/format.ts";
import type { Column } from "../output/table.ts";
import { requireFound } from "../with-suggestion.ts";
import { addSnapshotAction } from "./snapshot-create.ts";
import { addReplicateCommand, describeReplication } from "./snapshot-replicate.ts";
import { addExportCommand, addImportCommand } from "./snapshot-transfer.ts";
import { addTreeCommand } from "./snapshot-tree.ts";

const COLUMNS: readonly Column<Snapshot>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "SLUG", value: ({ slug }) => slug },
  { title: "REGION", value: ({ region }) => region, dropRank: 3 },
  { title: "ALLOCATED", value: ({ allocated }) => formatSize(allocated), isNumeric: true, dropRank: 1 },
  { title: "BOOTABLE", value: ({ bootable }) => formatBoolean(bootable), dropRank: 2 },
  { title: "FLATTENED", value: ({ used }) => formatSize(used), isNumeric: true, dropRank: 4 },
  { title: "BASE", value: sourceOf, dropRank: 5 },
];

/** Shown where there are others than local ones. */
const CLASS_COLUMN: Column<Snapshot> = {
  title: "CLASS",
  value: ({ storageClass }) => storageClass ?? "-",
  dropRank: 6,
};

const DELETED_COLUMNS: readonly Column<Snapshot>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "SLUG", value: ({ slug }) => slug },
  { title: "REGION", value: ({ region }) => region, dropRank: 2 },
  { title: "BASE", value: sourceOf, dropRank: 3 },
  { title: "RESTORABLE UNTIL", value: ({ purgeAt }) => (purgeAt === null ? "-" : formatTime(purgeAt)), dropRank: 1 },
];

/** What was imported has no volume here. */
function sourceOf({ volume }: Snapshot): string {
  return volume.id === "" ? "-" : volume.slug;
}

const byId = ({ id }: Snapshot): string => id;

/** `caisson snapshots ...`. */
export function addSnapshotsCommands(program: Command): void {
  const snapshots = program
    .command("snapshots")
    .alias("snapshot")
    .description("Snapshots: read-only images of volumes, to boot from and to clone");
  addSnapshotAction(snapshots.command("create").alias("new"));
  addList(snapshots);
  addGet(snapshots);
  addTreeCommand(snapshots);
  addDelete(snapshots);
  addDeleted(snapshots);
  addRestore(snapshots);
  addPurge(snapshots);
  addExportCommand(snapshots);
  addImportCommand(snapshots);
  addReplicateCommand(snapshots);
}

function addList(snapshots: Command): void {
  const command = snapshots
    .command("list")
    .alias("ls")
    .description("List snapshots, the newest first")
    .argument("[search]", "only those whose slug contains this")
    .action(
      run(async (context, search: string | undefined) => {
        const { client, settings } = await context.connect();
        const filter = search === undefined ? {} : { search };
        const items = await Array.fromAsync(await client.snapshots.list({ ...filter, limit: 100 }));
        const empty = search === undefined ? "No snapshots. Make one: caisson snapshots create VOLUME SLUG" : "None.";
        const isAnyReplicated = items.some(({ storageClass }) => storageClass === "replicated");
        const columns = isAnyReplicated ? [...COLUMNS, CLASS_COLUMN] : COLUMNS;
        context.output.list({ items, columns, id: byId, org: settings.org, empty });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson snapshots list root", "Snapshots with `root` in their slug"]]);
}

function addGet(snapshots: Command): void {
  const command = snapshots
    .command("get")
    .description("Show one snapshot")
    .argument("<id-or-slug>")
    .action(
      run(async (context, name: string) => {
        const { client } = await context.connect();
        const snapshot = await requireFound(client, "snapshot", name, client.snapshots.get(name));
        context.output.fields(snapshotFields(snapshot), snapshot.id, snapshot);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson snapshots get root-v1 --json", "Everything about a snapshot, for programs"]]);
}

function addDelete(snapshots: Command): void {
  const command = snapshots
    .command("delete")
    .aliases(["rm", "remove"])
    .description("Delete a snapshot; what was made from it stays, and it can be restored, by default for 24 hours")
    .argument("<id-or-slug>")
    .option("--now", "for good: its space is free once no sandbox runs from it, and nothing can restore it")
    .action(
      run(async (context, name: string, { now }: { readonly now?: boolean }) => {
        const { client } = await context.connect();
        const { id, slug } = await requireFound(client, "snapshot", name, client.snapshots.get(name));
        const isForGood = now === true;
        await client.snapshots.delete(id, { now: isForGood });
        const outlook = isForGood ? " for good" : `. To restore it: caisson snapshots restore ${id}`;
        context.output.confirm(`Deleted snapshot ${slug}${outlook}`, { id, slug });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson snapshots delete root-v1", "Delete by slug"],
    ["caisson snapshots delete root-v1 --now", "Delete for good, to make room"],
  ]);
}

function addPurge(snapshots: Command): void {
  const command = snapshots
    .command("purge")
    .description("Free the space of a deleted snapshot before its time; nothing can restore it then")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        await client.snapshots.purge(id);
        context.output.confirm(`Purged snapshot ${id}`, { id });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson snapshots purge snp_ord_…", "Purge one of those that `caisson snapshots deleted` lists"],
  ]);
}

function addDeleted(snapshots: Command): void {
  const command = snapshots
    .command("deleted")
    .description("List deleted snapshots that can still be restored")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const items = await Array.fromAsync(await client.snapshots.list({ deleted: true, limit: 100 }));
        const empty = "No deleted snapshots.";
        context.output.list({ items, columns: DELETED_COLUMNS, id: byId, org: settings.org, empty });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson snapshots deleted", "See what can be restored, and until when (UTC)"]]);
}

function addRestore(snapshots: Command): void {
  const command = snapshots
    .command("restore")
    .description("Restore a deleted snapshot")
    .argument("<id>")
    .option("--slug <slug>", "a new slug, for when the old one is taken meanwhile")
    .action(
      run(async (context, id: string, { slug }: { readonly slug?: string }) => {
        const { client } = await context.connect();
        const snapshot = await client.snapshots.restore(id, slug === undefined ? {} : { slug });
        context.output.confirm(`Restored snapshot ${snapshot.slug} (${snapshot.id})`, snapshot);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson snapshots restore snp_ord_…", "Restore under the old slug"]]);
}

function snapshotFields(snapshot: Snapshot): (readonly [string, string])[] {
  const labels = Object.entries(snapshot.labels).map(([key, value]) => `${key}=${value}`);
  return [
    ["ID", snapshot.id],
    ["SLUG", snapshot.slug],
    ["REGION", snapshot.region],
    ...(snapshot.storageClass === null ? [] : [["CLASS", snapshot.storageClass] as const]),
    ["ALLOCATED", formatSize(snapshot.allocated)],
    ["FLATTENED", formatSize(snapshot.used)],
    ["EXCLUSIVE", formatExclusive(snapshot)],
    ["MEASURED", formatMeasured(snapshot)],
    ["INODES", formatInodes(snapshot)],
    ["BOOTABLE", formatBoolean(snapshot.bootable)],
    ["VOLUME", snapshot.volume.id === "" ? "-" : `${snapshot.volume.slug} (${snapshot.volume.id})`],
    ["CONSISTENCY", snapshot.consistency ?? "-"],
    ["LABELS", labels.length === 0 ? "-" : labels.join(", ")],
    ["REPLICATION", describeReplication(snapshot)],
    ...(snapshot.fetch === null ? [] : [["FETCH", describeFetch(snapshot.fetch)] as const]),
    ["CREATED", snapshot.createdAt === null ? "-" : formatTime(snapshot.createdAt)],
  ];
}
