import { execFile } from "node:child_process";
import { resolve } from "node:path";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { PATHS } from "../server-process/paths.ts";

interface DatabaseFlags {
  readonly data?: string;
  readonly config?: string;
}

interface Migrated {
  readonly schemaVersion: number;
}

interface Copied {
  /** By table. */
  readonly rows: Readonly<Record<string, number>>;
  /** An earlier run had copied them; now they were only compared. */
  readonly wasCopied: boolean;
}

/** `caisson database ...`: for a server that is stopped, on its own machine. */
export function addDatabaseCommands(program: Command): void {
  const database = program
    .command("database")
    .description("The PostgreSQL database that the server's settings name, while the server is stopped");
  const copy = database
    .command("copy")
    .description("Copy everything that the data directory has in SQLite, and compare it row by row")
    .action(
      run(async (context, flags: DatabaseFlags) => {
        const copied = await runServer<Copied>("copy", flags);
        const { organizations, disks, sandboxes, events } = copied.rows;
        const text = `${copied.wasCopied ? "Compared" : "Copied and compared"} ${organizations} organizations, ${disks} volumes and snapshots, ${sandboxes} sandboxes and ${events} lines of the trail: the server uses PostgreSQL from its next start on`;
        context.output.confirm(text, copied);
      }),
    );
  addServerOptions(copy);
  addExamples(copy, [["caisson database copy", "After setting `database` in caisson.toml of a server that had none"]]);
  const migrate = database
    .command("migrate")
    .description("Bring its tables up to date, as the server's start does")
    .action(
      run(async (context, flags: DatabaseFlags) => {
        const migrated = await runServer<Migrated>("migrate", flags);
        context.output.confirm(`The tables have version ${migrated.schemaVersion}`, migrated);
      }),
    );
  addServerOptions(migrate);
  addExamples(migrate, [["caisson database migrate", "Try a new version's tables before its first start"]]);
}

function addServerOptions(command: Command): void {
  command
    .option("--data <directory>", "the server's data directory (default: /var/lib/caisson)")
    .option("--config <file>", "the server's settings (default: caisson.toml in the data directory)");
  addOutputOptions(command);
}

/** The server's own program does it; its last line says what was wrong. */
function runServer<T extends object>(command: string, { data, config }: DatabaseFlags): Promise<T> {
  const args = [
    PATHS.server,
    "database",
    command,
    ...(data === undefined ? [] : ["--data", resolve(data)]),
    ...(config === undefined ? [] : ["--config", resolve(config)]),
  ];
  return new Promise((resolveOutcome, reject) => {
    execFile(process.execPath, args, (error, stdout, stderr) => {
      if (error === null) resolveOutcome(JSON.parse(stdout) as T);
      else reject(new CliError("DATABASE_FAILED", EXIT.failure, stderr.trim().replace(/^caisson: /, "")));
    });
  });
}
