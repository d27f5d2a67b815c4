import type { Command } from "commander";
import { addCommonOptions, addExamples, collect, run } from "../define.ts";
import { parsePairs } from "../parse-pairs.ts";
import { withSuggestion } from "../with-suggestion.ts";

/** `volumes snapshot` and `snapshots create` are one action under two names. */
export function addSnapshotAction(command: Command): void {
  command
    .description("Make a snapshot of a volume and print its id; a sandbox may be using the volume")
    .argument("<volume>", "the volume's id or slug")
    .argument("<snapshot-slug>", "the snapshot's slug")
    .option("--label <key=value>", "a label (repeatable)", collect)
    .action(
      run(async (context, volume: string, slug: string, { label }: { readonly label?: readonly string[] }) => {
        const { client } = await context.connect();
        const labels = label === undefined ? {} : { labels: parsePairs("--label", label) };
        const snapshot = await withSuggestion(client, "volume", volume, () =>
          client.volumes.snapshot(volume, { slug, ...labels }),
        );
        context.output.value(snapshot.id, snapshot);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    [`caisson ${command.parent?.name()} ${command.name()} root root-v1`, "Snapshot the volume `root` as `root-v1`"],
  ]);
}
