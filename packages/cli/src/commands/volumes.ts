import { formatSize } from "@caisson/model";
import type { Period, SizeText, StorageClass, Volume, VolumeError } from "@caisson/sdk";
import { type Command, Option } from "commander";
import { usageError } from "../cli-error.ts";
import { addCommonOptions, addExamples, collect, run } from "../define.ts";
import { showingFetch } from "../fetch-progress.ts";
import {
  formatBoolean,
  formatExclusive,
  formatInodes,
  formatMeasured,
  formatSpan,
  formatTime,
} from "../output/format.ts";
import type { Column } from "../output/table.ts";
import { parsePairs } from "../parse-pairs.ts";
import { requireFound, withSuggestion } from "../with-suggestion.ts";
import { addSnapshotAction } from "./snapshot-create.ts";

const COLUMNS: readonly Column<Volume>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "SLUG", value: ({ slug }) => slug },
  { title: "REGION", value: ({ region }) => region, dropRank: 3 },
  { title: "USED", value: ({ used }) => formatSize(used), isNumeric: true, dropRank: 1 },
  { title: "TOTAL", value: ({ capacity }) => formatSize(capacity), isNumeric: true, dropRank: 2 },
  { title: "BASE", value: ({ parent }) => parent?.slug ?? "-", dropRank: 4 },
];

/** Where there is a schedule. */
const REPLICATED_COLUMN: Column<Volume> = { title: "REPLICATED", value: describeReplicated, dropRank: 5 };

/** Shown where there are others than local ones. */
const CLASS_COLUMN: Column<Volume> = {
  title: "CLASS",
  value: ({ storageClass }) => storageClass ?? "-",
  dropRank: 5,
};

const DELETED_COLUMNS: readonly Column<Volume>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "SLUG", value: ({ slug }) => slug },
  { title: "REGION", value: ({ region }) => region, dropRank: 3 },
  { title: "TOTAL", value: ({ capacity }) => formatSize(capacity), isNumeric: true, dropRank: 2 },
  { title: "RESTORABLE UNTIL", value: ({ purgeAt }) => (purgeAt === null ? "-" : formatTime(purgeAt)), dropRank: 1 },
];

const isReplicated = ({ storageClass }: Volume): boolean => storageClass === "replicated";
const byId = ({ id }: Volume): string => id;

/** `caisson volumes ...`. */
export function addVolumesCommands(program: Command): void {
  const volumes = program
    .command("volumes")
    .alias("volume")
    .description("Volumes: read-write storage that outlives sandboxes");
  addCreate(volumes);
  addList(volumes);
  addGet(volumes);
  addGrow(volumes);
  addSchedule(volumes);
  addSnapshotAction(volumes.command("snapshot"));
  addDelete(volumes);
  addDeleted(volumes);
  addRestore(volumes);
  addPurge(volumes);
  addAcknowledge(volumes);
}

interface CreateFlags {
  readonly capacity: string;
  readonly region: string;
  readonly from?: string;
  readonly class?: StorageClass;
  readonly inodes?: number;
  readonly label?: readonly string[];
  readonly every?: string;
}

function addCreate(volumes: Command): void {
  const command = volumes
    .command("create")
    .alias("new")
    .description("Create a volume and print its id")
    .argument("<name>", "its slug: 2 to 32 characters of a-z, 0-9 and -")
    .requiredOption("--capacity <size>", "for example 10GB or 512MiB; 300MB to 20GB by default")
    .requiredOption("--region <region>", "for example ord")
    .option("--from <source>", "builtin:debian-13, or a snapshot's id or slug; makes it bootable if that is")
    .addOption(
      new Option("--class <class>", "where its bytes live; default: as the server's settings say").choices([
        "local",
        "replicated",
      ]),
    )
    .option(
      "--inodes <count>",
      "how many files a blank volume can hold at least; default: one for every 10 KiB",
      parseInodes,
    )
    .option("--label <key=value>", "a label (repeatable)", collect)
    .option("--every <period>", "have a snapshot made by itself that often, for example 5m; see `volumes schedule`")
    .action(
      run(
        async (
          context,
          slug: string,
          { capacity, region, from, class: storageClass, inodes, label, every }: CreateFlags,
        ) => {
          const { client } = await context.connect();
          const labels = label === undefined ? {} : { labels: parsePairs("--label", label) };
          const source = from === undefined ? {} : { from };
          const init = {
            slug,
            region,
            capacity: capacity as SizeText,
            ...source,
            ...(storageClass !== undefined && { storageClass }),
            ...(inodes !== undefined && { inodes }),
            ...labels,
            ...(every !== undefined && { every: every as Period }),
          };
          const create = () => showingFetch(context.output, client, from, () => client.volumes.create(init));
          const hint = `Make a snapshot of it first: caisson volumes snapshot ${from} NAME`;
          const volume = await (from === undefined ? create() : withSuggestion(client, "snapshot", from, create, hint));
          context.output.value(volume.id, volume);
        },
      ),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson volumes create dataset --capacity 10GB --region ord", "An empty volume"],
    ["caisson volumes create safe --capacity 10GB --region ord --class replicated", "In the replicated pool"],
    ["caisson volumes create cache --capacity 5GB --region ord --inodes 1000000", "For a million small files"],
    ["caisson volumes create root --capacity 10GB --region ord --from builtin:debian-13", "A bootable one"],
    ["caisson volumes create db --capacity 5GB --region ord --every 5m", "One that is snapshotted every five minutes"],
  ]);
}

function addList(volumes: Command): void {
  const command = volumes
    .command("list")
    .alias("ls")
    .description("List volumes, the newest first")
    .argument("[search]", "only those whose slug contains this")
    .action(
      run(async (context, search: string | undefined) => {
        const { client, settings } = await context.connect();
        const filter = search === undefined ? {} : { search };
        const items = await Array.fromAsync(await client.volumes.list({ ...filter, limit: 100 }));
        const empty =
          search === undefined
            ? "No volumes. Create one: caisson volumes create NAME --capacity 10GB --region ord"
            : "None.";
        const columns = [
          ...COLUMNS,
          ...(items.some(isReplicated) ? [CLASS_COLUMN] : []),
          ...(items.some(({ schedule }) => schedule !== null) ? [REPLICATED_COLUMN] : []),
        ];
        context.output.list({ items, columns, id: byId, org: settings.org, empty });
        for (const { slug, lastError, unavailable, schedule } of items) {
          if (schedule?.error != null && !context.output.isJson)
            context.output.warn(`Volume ${slug} misses a snapshot of its schedule: ${schedule.error}`);
          if (unavailable !== null && !context.output.isJson)
            context.output.warn(`Volume ${slug} cannot be used: ${unavailable}`);
          if (lastError === null || context.output.isJson) continue;
          const advice = `When you have checked it: caisson volumes acknowledge ${slug}`;
          context.output.warn(`Volume ${slug} is damaged: ${describeLastError(lastError)}. ${advice}`);
        }
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson volumes list data", "Volumes with `data` in their slug"]]);
}

function addGet(volumes: Command): void {
  const command = volumes
    .command("get")
    .description("Show one volume")
    .argument("<id-or-slug>")
    .action(
      run(async (context, name: string) => {
        const { client } = await context.connect();
        const volume = await requireFound(client, "volume", name, client.volumes.get(name));
        context.output.fields(volumeFields(volume), volume.id, volume);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson volumes get dataset --json", "Everything about a volume, for programs"]]);
}

function addGrow(volumes: Command): void {
  const command = volumes
    .command("grow")
    .description("Make a volume larger; no sandbox may hold it meanwhile")
    .argument("<id-or-slug>")
    .argument("<capacity>", "the new size, for example 20GB")
    .action(
      run(async (context, name: string, capacity: string) => {
        const { client } = await context.connect();
        const volume = await withSuggestion(client, "volume", name, () =>
          client.volumes.grow(name, { capacity: capacity as SizeText }),
        );
        context.output.confirm(`Volume ${volume.slug} has ${formatSize(volume.capacity)}`, volume);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson volumes grow dataset 20GB", "Give a volume more room"]]);
}

function addSchedule(volumes: Command): void {
  const command = volumes
    .command("schedule")
    .description("Have the server make a snapshot of a volume by itself, and thin out older ones")
    .argument("<id-or-slug>")
    .requiredOption("--every <period>", "how often, in s, m, h or d: 5m, 12h; 1m to 30d by default; off: no more")
    .action(
      run(async (context, name: string, { every }: { readonly every: string }) => {
        const { client } = await context.connect();
        const volume = await withSuggestion(client, "volume", name, () =>
          client.volumes.schedule(name, { every: every === "off" ? null : (every as Period) }),
        );
        context.output.confirm(`Volume ${volume.slug}: ${describeSchedule(volume)}`, volume);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson volumes schedule dataset --every 5m", "A snapshot at once, and then every five minutes"],
    ["caisson volumes schedule dataset --every off", "No more; what was made stays as long as it would"],
  ]);
}

function addDelete(volumes: Command): void {
  const command = volumes
    .command("delete")
    .aliases(["rm", "remove"])
    .description("Delete a volume; it can be restored, by default for 24 hours")
    .argument("<id-or-slug>")
    .option("--now", "for good: its space is free at once, and nothing can restore it")
    .action(
      run(async (context, name: string, { now }: { readonly now?: boolean }) => {
        const { client } = await context.connect();
        // The id is what it can be restored by, so it is looked up while the slug still finds it.
        const { id, slug } = await requireFound(client, "volume", name, client.volumes.get(name));
        const isForGood = now === true;
        await withSuggestion(client, "volume", id, () => client.volumes.delete(id, { now: isForGood }));
        const outlook = isForGood ? " for good" : `. To restore it: caisson volumes restore ${id}`;
        context.output.confirm(`Deleted volume ${slug}${outlook}`, { id, slug });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson volumes delete dataset", "Delete by slug"],
    ["caisson volumes delete dataset --now", "Delete for good, to make room at once"],
  ]);
}

function addDeleted(volumes: Command): void {
  const command = volumes
    .command("deleted")
    .description("List deleted volumes that can still be restored")
    .action(
      run(async (context) => {
        const { client, settings } = await context.connect();
        const items = await Array.fromAsync(await client.volumes.list({ deleted: true, limit: 100 }));
        context.output.list({
          items,
          columns: DELETED_COLUMNS,
          id: byId,
          org: settings.org,
          empty: "No deleted volumes.",
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson volumes deleted", "See what can be restored, and until when (UTC)"]]);
}

function addPurge(volumes: Command): void {
  const command = volumes
    .command("purge")
    .description("Free the space of a deleted volume before its time; nothing can restore it then")
    .argument("<id>")
    .action(
      run(async (context, id: string) => {
        const { client } = await context.connect();
        await client.volumes.purge(id);
        context.output.confirm(`Purged volume ${id}`, { id });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson volumes purge vol_ord_…", "Purge one of those that `caisson volumes deleted` lists"],
  ]);
}

function addAcknowledge(volumes: Command): void {
  const command = volumes
    .command("acknowledge")
    .alias("ack")
    .description("Say that you know what went wrong with a volume, so that it is no longer shown")
    .argument("<id-or-slug>")
    .action(
      run(async (context, name: string) => {
        const { client } = await context.connect();
        const volume = await withSuggestion(client, "volume", name, () => client.volumes.acknowledge(name));
        context.output.confirm(`Acknowledged the last error of volume ${volume.slug}`, volume);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson volumes acknowledge dataset", "After its files were checked"]]);
}

function addRestore(volumes: Command): void {
  const command = volumes
    .command("restore")
    .description("Restore a deleted volume")
    .argument("<id>")
    .option("--slug <slug>", "a new slug, for when the old one is taken meanwhile")
    .action(
      run(async (context, id: string, { slug }: { readonly slug?: string }) => {
        const { client } = await context.connect();
        const volume = await client.volumes.restore(id, slug === undefined ? {} : { slug });
        context.output.confirm(`Restored volume ${volume.slug} (${volume.id})`, volume);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson volumes restore vol_ord_…", "Restore under the old slug"],
    ["caisson volumes restore vol_ord_… --slug dataset-2", "Restore under another one"],
  ]);
}

function parseInodes(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(count)) return count;
  throw usageError(`Invalid number of inodes ${JSON.stringify(text)}`, "Give a whole number, for example 1000000.");
}

function describeLastError({ message, at }: VolumeError): string {
  return `${message} (found ${formatTime(at)})`;
}

function describeSchedule({ schedule }: Volume): string {
  if (schedule === null) return "no schedule";
  const place = schedule.replicates
    ? "brought into the snapshot store"
    : "in the pool alone, because the server has no snapshot store";
  return `a snapshot every ${schedule.every}, ${place}`;
}

function describeReplicated({ replicatedAt }: Volume): string {
  return replicatedAt === null ? "-" : `${formatSpan(Date.now() - replicatedAt.getTime())} ago`;
}

function volumeFields(volume: Volume): (readonly [string, string])[] {
  const labels = Object.entries(volume.labels).map(([key, value]) => `${key}=${value}`);
  return [
    ["ID", volume.id],
    ["SLUG", volume.slug],
    ["REGION", volume.region],
    ...(volume.storageClass === null ? [] : [["CLASS", volume.storageClass] as const]),
    ["USED", formatSize(volume.used)],
    ["ALLOCATED", formatSize(volume.allocated)],
    ["EXCLUSIVE", formatExclusive(volume)],
    ["MEASURED", formatMeasured(volume)],
    ["TOTAL", formatSize(volume.capacity)],
    ["INODES", formatInodes(volume)],
    ["BOOTABLE", formatBoolean(volume.bootable)],
    ["BASE", volume.parent?.slug ?? "-"],
    ["ATTACHED TO", volume.attachedTo ?? "-"],
    ["LABELS", labels.length === 0 ? "-" : labels.join(", ")],
    ["CREATED", volume.createdAt === null ? "-" : formatTime(volume.createdAt)],
    ["SCHEDULE", volume.schedule === null ? "-" : describeSchedule(volume)],
    ...(volume.schedule === null ? [] : [["NEXT", formatTime(volume.schedule.nextAt)] as const]),
    ...(volume.schedule?.error == null ? [] : [["SCHEDULE ERROR", volume.schedule.error] as const]),
    [
      "REPLICATED",
      volume.replicatedAt === null ? "-" : `as of ${formatTime(volume.replicatedAt)}, ${describeReplicated(volume)}`,
    ],
    ...(volume.lastError === null ? [] : [["LAST ERROR", describeLastError(volume.lastError)] as const]),
    ...(volume.unavailable === null ? [] : [["UNAVAILABLE", volume.unavailable] as const]),
  ];
}
