import { formatSize } from "@caisson/model";
import type { Client, Sandbox, SkippedFile } from "@caisson/sdk";
import type { Command } from "commander";
import { usageError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import type { FileSystem, Transfer } from "../copy/copy.ts";
import { type Location, parseLocation } from "../copy/location.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatCount, formatDuration } from "../output/format.ts";
import { explainEnd } from "../terminal/explain-end.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";

/** `caisson copy`. */
export function addCopyCommand(program: Command): void {
  const command = program
    .command("copy")
    .alias("cp")
    .description("Copy files and directories between this machine and sandboxes, or between sandboxes")
    .argument("<paths...>", "sources, then the target; in a sandbox: <sandbox-id>:<path>, sources may be globs")
    .action(run(copy));
  addCommonOptions(command);
  addExamples(command, [
    ["caisson copy ./src sbx_ord_…:/app/", "A directory into another"],
    ["caisson copy 'sbx_ord_…:/data/*.csv' ./results/", "What a glob matches; quote it"],
    ["caisson copy sbx_ord_…:/data/model.bin sbx_ord_…:/data/", "From one sandbox to another"],
  ]);
}

async function copy(context: Context, texts: readonly string[]): Promise<void> {
  const locations = texts.map(parseLocation);
  const target = locations.at(-1);
  const sources = locations.slice(0, -1);
  if (target === undefined || sources.length === 0)
    throw usageError("Give at least one source and the target", "caisson copy SOURCE... TARGET");
  if (target.sandboxId === null && sources.some(({ sandboxId }) => sandboxId === null)) {
    throw usageError("Neither side is a sandbox", "Write one as <sandbox-id>:<path>; between local paths use cp.");
  }
  const { client } = await context.connect();
  const ids = [...new Set(locations.flatMap(({ sandboxId }) => sandboxId ?? []))];
  await explainEnd(client, ids, () => withInterrupt((signal) => copyBetween(context, client, sources, target, signal)));
}

async function copyBetween(
  context: Context,
  client: Client,
  sources: readonly Location[],
  target: Location,
  signal: AbortSignal,
): Promise<void> {
  const { fileSystemOf, planTransfers, transfer } = await import("../copy/copy.ts");
  const { CopyProgress } = await import("../copy/progress.ts");
  await using sandboxes = new OpenSandboxes(client, signal);
  const open = async ({ sandboxId }: Location): Promise<FileSystem> =>
    fileSystemOf(sandboxId === null ? null : await sandboxes.get(sandboxId));
  const targetSystem = await open(target);
  const opened: { readonly fileSystem: FileSystem; readonly location: Location }[] = [];
  for (const location of sources) opened.push({ fileSystem: await open(location), location });

  const skipped: SkippedFile[] = [];
  const onSkip = (file: SkippedFile): void => {
    skipped.push(file);
    context.output.warn(file.message);
  };
  const transfers = await planTransfers(opened, targetSystem, target.path, onSkip);
  const { isWatched } = context.output;
  using progress = new CopyProgress(isWatched ? await totalSize(transfers) : null, isWatched);
  for (const item of transfers) {
    await transfer(item, targetSystem, { signal, onProgress: progress.report, onSkip });
    progress.next();
  }
  progress[Symbol.dispose]();
  const { bytes, files, elapsedMs } = progress;
  const text = `Copied ${formatCount(files, "file")} (${formatSize(bytes)}) in ${formatDuration(elapsedMs)}`;
  context.output.confirm(text, {
    files,
    bytes,
    durationMs: Math.round(elapsedMs),
    skipped: skipped.map(({ path, reason }) => ({ path, reason })),
  });
  // Pipes and the like have no content to miss. What has some and was left out makes the copy a failure, as with rsync and tar.
  if (skipped.some(({ reason }) => reason === "name" || reason === "unreadable")) process.exitCode = EXIT.failure;
}

async function totalSize(transfers: readonly Transfer[]): Promise<number | null> {
  let total = 0;
  for (const { source, path } of transfers) {
    const amount = await source.side.measure(path);
    if (amount === null) return null;
    total += amount.bytes;
  }
  return total;
}

/** Connections of one command: one for each sandbox, closed at the end. */
class OpenSandboxes implements AsyncDisposable {
  readonly #client: Client;
  readonly #signal: AbortSignal;
  readonly #open = new Map<string, Sandbox>();

  constructor(client: Client, signal: AbortSignal) {
    this.#client = client;
    this.#signal = signal;
  }

  async get(id: string): Promise<Sandbox> {
    const existing = this.#open.get(id);
    if (existing !== undefined) return existing;
    const sandbox = await this.#client.sandboxes.connect(id, { signal: this.#signal });
    this.#open.set(id, sandbox);
    return sandbox;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#open.values()].map((sandbox) => sandbox.close()));
  }
}
