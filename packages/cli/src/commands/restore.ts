import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { formatSize } from "@caisson/model";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatSpan, formatTime } from "../output/format.ts";
import { PATHS } from "../server-process/paths.ts";

interface StoreFlags {
  readonly from: string;
  readonly key: string;
  readonly backup?: string;
  readonly nodesLost?: boolean;
  readonly endpoint?: string;
  readonly s3Region?: string;
  readonly pathStyle?: boolean;
  readonly ca?: string;
}

interface RestoreFlags extends StoreFlags {
  readonly data: string;
  readonly fetch?: boolean;
}

interface DrillFlags extends StoreFlags {
  readonly sample: string;
}

interface RestoredDisk {
  readonly id: string;
  readonly kind: "volume" | "snapshot";
  readonly slug: string;
  readonly organization: string;
  readonly outcome: "stored" | "damaged" | "from-snapshot" | "purged" | "lost";
  readonly snapshot: { readonly slug: string } | null;
  readonly atMs: number | null;
}

interface Report {
  readonly backupId: string;
  readonly at: string;
  readonly rows: Readonly<Record<string, number>>;
  readonly skipped: readonly { readonly id: string; readonly problem: string }[];
  readonly disks: readonly RestoredDisk[];
  readonly endedSandboxes: number;
  readonly keptNodes: readonly { readonly id: string; readonly address: string }[];
  readonly unknownSnapshots: number;
}

interface RestoreReport extends Report {
  readonly areSettingsChanged: boolean;
  readonly hadDatabase: boolean;
}

interface DrillReport extends Report {
  readonly snapshots: { readonly count: number; readonly fetched: number; readonly fetchedBytes: number };
  readonly damaged: readonly {
    readonly id: string;
    readonly slug: string;
    readonly organization: string;
    readonly problem: string;
  }[];
  readonly rpo: { readonly rowsMs: number; readonly oldestVolumeMs: number | null };
  readonly rto: { readonly rowsMs: number; readonly fetchMs: number; readonly allMs: number | null };
  readonly isWhole: boolean;
}

/** `caisson restore` and `caisson drill`: on a machine that has the store's address and the installation's key, and nothing else. */
export function addRestoreCommands(program: Command): void {
  const restore = program
    .command("restore")
    .description(
      "Make a data directory of a backup in the snapshot store, on an empty machine, and take the store over",
    )
    .requiredOption("--data <directory>", "the new data directory: absent or empty")
    .option("--fetch", "also fetch every snapshot at the first start, not only those that are used")
    .action(
      run(async (context, flags: RestoreFlags) => {
        const args = ["--data", resolve(flags.data), ...(flags.fetch === true ? ["--fetch"] : [])];
        const report = await runServer<RestoreReport>("restore", flags, args);
        showRestored(context, report);
        const { output } = context;
        if (report.areSettingsChanged)
          output.note(
            "The settings name the store where it is now; the former ones are beside them, in caisson.toml.former",
          );
        if (report.hadDatabase)
          output.warn(
            `the rows were in PostgreSQL and are in SQLite here. Set "database" in ${flags.data}/caisson.toml to a new, empty database and run \`caisson database copy --data ${flags.data}\`, or remove the setting`,
          );
        output.confirm(`Restored ${report.backupId} to ${flags.data}: run \`caisson up --data ${flags.data}\``, report);
      }),
    );
  addStoreOptions(restore);
  addExamples(restore, [
    [
      "caisson restore --from s3://backups/caisson --endpoint https://s3.example.com --key caisson.key --data /var/lib/caisson",
      "All that is in the store, as of the newest whole backup",
    ],
    [
      "caisson restore --from file:///mnt/far --key caisson.key --backup 20261127T175200Z-0a1b2c3d --data ./data",
      "Rows of an older backup",
    ],
  ]);

  const drill = program
    .command("drill")
    .description(
      "Rehearse a restore without touching the store or its server, and print what would come back, and when",
    )
    .option("--sample <n>", "how many snapshots to fetch and compare, or all", "10")
    .action(
      run(async (context, flags: DrillFlags) => {
        const report = await runServer<DrillReport>("drill", flags, ["--sample", flags.sample]);
        showRestored(context, report);
        showDrill(context, report);
        requireWhole(report);
      }),
    );
  addStoreOptions(drill);
  addExamples(drill, [
    [
      "caisson drill --from file:///mnt/far --key caisson.key",
      "Every week; the exit code is 1 when something did not come back",
    ],
    ["caisson drill --from file:///mnt/far --key caisson.key --sample all", "Read everything"],
  ]);
}

function addStoreOptions(command: Command): void {
  command
    .requiredOption("--from <url>", "the store: s3://BUCKET/PREFIX or file:///DIRECTORY")
    .requiredOption("--key <file>", "what `caisson keys export` printed")
    .option("--backup <id>", "which backup (default: the newest that is whole)")
    .option(
      "--nodes-lost",
      "machines that had joined as nodes are gone too: what they had replicated becomes this machine's",
    )
    .option("--endpoint <url>", "of an S3 service that is not Amazon's")
    .option("--s3-region <name>", "region of the S3 service")
    .option("--path-style", "the bucket stands in the path")
    .option("--ca <file>", "certificates of the S3 service's authority");
  addOutputOptions(command);
}

function showRestored({ output }: Context, report: Report): void {
  // `skipped` are newer backups that were passed over because they are damaged: each is told of below.
  const { skipped, disks, endedSandboxes, keptNodes, unknownSnapshots, rows } = report;
  for (const { problem } of skipped) output.warn(`${problem}; an older backup is used`);
  output.note(
    `As of ${formatTime(new Date(report.at))} (${report.backupId}): ${rows.organizations} organizations, ${rows.tokens} tokens, ${rows.disks} volumes and snapshots, ${endedSandboxes} sandboxes that ended`,
  );
  for (const disk of disks) output.note(lineOf(disk));
  for (const { id, address } of keptNodes)
    output.note(
      `node ${id} at ${address} keeps what it has, and is asked when the server starts (--nodes-lost: it is gone too)`,
    );
  if (unknownSnapshots > 0)
    output.note(
      `${unknownSnapshots} snapshots in the store are newer than the backup, or of an installation before: they stay there, without rows`,
    );
}

function lineOf({ kind, slug, organization, outcome, snapshot, atMs }: RestoredDisk): string {
  const name = `${kind} ${slug} of ${organization}`;
  const at = atMs === null ? "" : formatTime(new Date(atMs));
  if (outcome === "stored") return `${name}: in the store, as of ${at}`;
  if (outcome === "damaged") return `${name}: DAMAGED, the store lacks a part of it`;
  if (outcome === "from-snapshot") return `${name}: comes back as of ${at}, from snapshot ${snapshot?.slug}`;
  if (outcome === "purged") return `${name}: not in the store any more, purged since the backup`;
  return `${name}: LOST, it was on the lost machine alone`;
}

function showDrill({ output }: Context, report: DrillReport): void {
  const { snapshots, rpo, rto } = report;
  const volumes =
    rpo.oldestVolumeMs === null ? "" : `, of the volume that comes back oldest ${formatSpan(rpo.oldestVolumeMs)}`;
  const all = rto.allMs === null ? "not known: no snapshot was fetched" : formatSpan(rto.allMs);
  output.fields(
    [
      ["BACKUP", report.backupId],
      [
        "SNAPSHOTS",
        `${snapshots.fetched} of ${snapshots.count} fetched and compared, ${formatSize(snapshots.fetchedBytes)}`,
      ],
      ["RPO", `${formatSpan(rpo.rowsMs)} of the rows${volumes}`],
      ["RTO", `${formatSpan(rto.rowsMs)} until the rows are there, ${all} with all snapshots, by what was measured`],
    ],
    report.isWhole ? "whole" : "damaged",
    report,
  );
}

function requireWhole({ isWhole, damaged, disks, skipped }: DrillReport): void {
  if (isWhole) return;
  const problems = [
    ...skipped.map(({ problem }) => problem),
    ...damaged.map(({ slug, organization, problem }) => `${slug} of ${organization}: ${problem}`),
    ...disks
      .filter(({ outcome, id }) => outcome === "damaged" && !damaged.some((snapshot) => snapshot.id === id))
      .map(({ slug, organization }) => `${slug} of ${organization}: the store lacks a part of it`),
    ...disks
      .filter(({ outcome }) => outcome === "purged")
      .map(
        ({ slug, organization }) =>
          `${slug} of ${organization}: the backup says that it is replicated, and the store does not have it`,
      ),
  ];
  const hint =
    "What was purged since the backup is expected: make a new one (`caisson backup create`) and rehearse again. Nothing was changed.";
  throw new CliError("NOT_WHOLE", EXIT.failure, problems.join("\n"), hint);
}

/** The server's own program does it; its last line says what was wrong. */
function runServer<T extends object>(
  command: "restore" | "drill",
  flags: StoreFlags,
  more: readonly string[],
): Promise<T> {
  const { from, key, backup, nodesLost, endpoint, s3Region, pathStyle, ca } = flags;
  const option = (name: string, value: string | undefined) => (value === undefined ? [] : [name, value]);
  const args = [
    ...[PATHS.server, command, "--from", from, "--key", resolve(key), ...more],
    ...option("--backup", backup),
    ...option("--endpoint", endpoint),
    ...option("--s3-region", s3Region),
    ...option("--ca", ca === undefined ? undefined : resolve(ca)),
    ...(pathStyle === true ? ["--path-style"] : []),
    ...(nodesLost === true ? ["--nodes-lost"] : []),
  ];
  return new Promise((resolveOutcome, reject) => {
    execFile(process.execPath, args, { maxBuffer: 2 ** 30 }, (error, stdout, stderr) => {
      if (error === null) resolveOutcome(JSON.parse(stdout) as T);
      else reject(new CliError("RESTORE_FAILED", EXIT.failure, stderr.trim().replace(/^caisson: /, "")));
    });
  });
}
