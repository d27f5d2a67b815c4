import { formatSize } from "@caisson/model";
import { type Client, NotFoundError, SandboxSdkError, type Snapshot, type SnapshotVerification } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import type { Column } from "../output/table.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";
import { withSuggestion } from "../with-suggestion.ts";

const COLUMNS: readonly Column<Line>[] = [
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
          const items: Line[] = [];
          if (name === undefined)
            for (const one of await replicated(client)) items.push(await lineOf(client, one, signal));
          else
            items.push(await withSuggestion(client, "snapshot", name, () => client.snapshots.verify(name, { signal })));
          const empty = "No snapshot is in the snapshot store.";
          context.output.list({ items, columns: COLUMNS, id: ({ id }) => id, org: settings.org, empty });
          requireWhole(items);
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    [
      "caisson verify",
      "Everything that is replicated; the exit code is 1 when something is damaged, and 6 when something could not be read",
    ],
    ["caisson verify root-v1", "One snapshot"],
  ]);
}

/** What was found of a snapshot, or why that is not known. */
interface Line extends SnapshotVerification {
  /** It could not be verified. */
  readonly failure?: string;
}

async function replicated(client: Client): Promise<readonly Snapshot[]> {
  const all = await Array.fromAsync(await client.snapshots.list({ limit: 100 }));
  return all.filter(({ replication }) => replication?.state === "replicated");
}

/** One that fails keeps none of the others from being verified. */
async function lineOf(client: Client, { id, slug }: Snapshot, signal: AbortSignal): Promise<Line> {
  const unknown = (problem: string) => {
    const part = { state: "unknown", problem } as const;
    return { id, slug, store: part, pool: part, read: 0, renewed: false };
  };
  try {
    return await client.snapshots.verify(id, { signal });
  } catch (error) {
    if (signal.aborted || !(error instanceof SandboxSdkError)) throw error;
    // Nothing is wrong with one that somebody has deleted.
    if (error instanceof NotFoundError) return unknown("it was deleted meanwhile");
    return { ...unknown(error.message), failure: error.message };
  }
}

function requireWhole(found: readonly Line[]): void {
  const problems = found.flatMap(({ slug, store, pool, renewed }) =>
    [store, pool]
      .filter(({ state }) => state === "damaged")
      .map(({ problem }) => `${slug}: ${problem}${renewed ? "; it is uploaded again" : ""}`),
  );
  const failures = found.flatMap(({ slug, failure }) => (failure === undefined ? [] : [`${slug}: ${failure}`]));
  if (problems.length > 0) {
    const hint =
      "A copy in the store is uploaded again where the image in the pool is whole. What is whole in one place only can be exported, or be a volume, from there; the server's administrator looks at the disk of the other.";
    throw new CliError("DAMAGED", EXIT.failure, [...problems, ...failures].join("\n"), hint);
  }
  if (failures.length > 0) throw new CliError("NOT_VERIFIED", EXIT.backend, failures.join("\n"));
}
