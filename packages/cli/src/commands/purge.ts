import type { Client } from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";

interface Deleted {
  readonly kind: "volume" | "snapshot";
  readonly id: string;
  readonly slug: string;
}

/** `caisson purge`. */
export function addPurgeCommand(program: Command): void {
  const command = program
    .command("purge")
    .description("Free the space of everything that is deleted, before its time; nothing can restore it then")
    .option("--yes", "purge; without it the command only says what it would purge")
    .action(
      run(async (context, { yes }: { readonly yes?: boolean }) => {
        const { client } = await context.connect();
        const deleted = await listDeleted(client);
        if (yes !== true && deleted.length > 0) {
          const names = deleted.map(({ kind, id, slug }) => `${kind} ${slug} (${id})`).join(", ");
          throw usageError(`This would purge ${names}, and nothing could restore them`, "Add --yes to purge them.");
        }
        for (const { kind, id } of deleted) await client[`${kind}s`].purge(id);
        const count = deleted.length === 1 ? "1 volume or snapshot" : `${deleted.length} volumes and snapshots`;
        context.output.confirm(`Purged ${count}`, { purged: deleted });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson purge", "See what is deleted and still takes space"],
    ["caisson purge --yes", "Make room at once"],
  ]);
}

/** The oldest deletion may matter least, so it comes first. */
async function listDeleted(client: Client): Promise<readonly Deleted[]> {
  const of = { deleted: true, limit: 100 };
  const volumes = await Array.fromAsync(await client.volumes.list(of));
  const snapshots = await Array.fromAsync(await client.snapshots.list(of));
  const found = [
    ...volumes.map(({ id, slug, deletedAt }) => ({ kind: "volume" as const, id, slug, deletedAt })),
    ...snapshots.map(({ id, slug, deletedAt }) => ({ kind: "snapshot" as const, id, slug, deletedAt })),
  ];
  return found
    .toSorted((a, b) => (a.deletedAt?.getTime() ?? 0) - (b.deletedAt?.getTime() ?? 0))
    .map(({ kind, id, slug }) => ({ kind, id, slug }));
}
