import { setTimeout as delay } from "node:timers/promises";
import { formatSize } from "@caisson/model";
import type { Client, Snapshot } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime } from "../output/format.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";
import { requireFound, withSuggestion } from "../with-suggestion.ts";

const LOOK_INTERVAL_MS = 500;

/** `snapshots replicate`. */
export function addReplicateCommand(snapshots: Command): void {
  const command = snapshots
    .command("replicate")
    .description("Bring a snapshot into the server's snapshot store, and wait until it is there")
    .argument("<id-or-slug>")
    .option("--no-wait", "only ask for it: the server does it in the background, and tries until it succeeds")
    .action(
      run(async (context, name: string, { wait }: { readonly wait: boolean }) => {
        const { client } = await context.connect();
        await withInterrupt(async (signal) => {
          const asked = await withSuggestion(client, "snapshot", name, () =>
            client.snapshots.replicate(name, { signal }),
          );
          const snapshot = wait ? await untilReplicated(client, asked.id, signal) : asked;
          const { slug } = snapshot;
          const text = wait
            ? `Replicated snapshot ${slug}: ${figuresOf(snapshot)}`
            : `Snapshot ${slug} is being replicated`;
          context.output.confirm(text, snapshot);
        });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson snapshots replicate root-v1", "Wait until it is there, and see how much was sent"],
    ["caisson snapshots replicate root-v1 --no-wait", "Leave it to the server"],
  ]);
}

/** How a snapshot stands with the snapshot store. */
export function describeReplication({ replication }: Snapshot): string {
  if (replication === null) return "-";
  const { state, at, bytes, error } = replication;
  if (state === "replicated")
    return `replicated ${at === null ? "" : formatTime(at)}, ${formatSize(bytes ?? 0)} in the store`;
  return state === "failed" ? `failed, and is tried again: ${error}` : state;
}

async function untilReplicated(client: Client, id: string, signal: AbortSignal): Promise<Snapshot> {
  for (;;) {
    const snapshot = await requireFound(client, "snapshot", id, client.snapshots.get(id, { signal }));
    const { state, error } = snapshot.replication ?? {};
    if (state === "replicated") return snapshot;
    if (state === "failed") {
      const hint = `The server tries it again by itself: \`caisson snapshots get ${snapshot.slug}\` shows how it stands.`;
      throw new CliError("NOT_REPLICATED", EXIT.backend, `Snapshot ${snapshot.slug} is not replicated: ${error}`, hint);
    }
    await delay(LOOK_INTERVAL_MS, undefined, { signal });
  }
}

function figuresOf({ replication }: Snapshot): string {
  const { read, shared, sent } = replication ?? {};
  const [readBytes, sharedBytes, sentBytes] = [read ?? 0, shared ?? 0, sent ?? 0];
  const savedBytes = Math.max(0, readBytes + sharedBytes - sentBytes);
  return `read ${formatSize(readBytes)}, sent ${formatSize(sentBytes)}, saved ${formatSize(savedBytes)}`;
}
