import { randomUUID } from "node:crypto";
import { open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { formatSize } from "@caisson/model";
import type { SnapshotImportInit } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError, usageError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import type { CopyProgress } from "../copy/progress.ts";
import { addCommonOptions, addExamples, collect, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { showingFetch } from "../fetch-progress.ts";
import { openInput } from "../input-file.ts";
import { formatDuration } from "../output/format.ts";
import { BrokenPipeError } from "../output/standard-outputs.ts";
import { parsePairs } from "../parse-pairs.ts";
import { quote } from "../quote.ts";
import { pumpOutput } from "../terminal/pump.ts";
import { withInterrupt } from "../terminal/until-interrupted.ts";
import { requireFound, withSuggestion } from "../with-suggestion.ts";

interface ExportFlags {
  readonly raw?: boolean;
}

interface ImportFlags {
  readonly slug: string;
  readonly region?: string;
  readonly label?: readonly string[];
  readonly raw?: boolean;
  readonly bootable?: boolean;
}

/** Of names of files: standard input or output. */
const STANDARD = "-";

/** `snapshots export`. */
export function addExportCommand(snapshots: Command): void {
  const command = snapshots
    .command("export")
    .description("Write a snapshot to a file, or to standard output: for another server, or for keeping")
    .argument("<id-or-slug>")
    .argument("[file]", "replaced when all of it is there; -: standard output", STANDARD)
    .option("--raw", "the ext4 image itself: nothing in it shows damage, and labels are not in it")
    .action(run(exportTo));
  addCommonOptions(command);
  addExamples(command, [
    ["caisson snapshots export tools-v1 tools-v1.snapshot", "One file, which verifies itself when it is imported"],
    [
      "caisson snapshots export tools-v1 - | ssh other caisson snapshots import - --slug tools-v1",
      "From one server to another",
    ],
    ["caisson snapshots export tools-v1 tools-v1.ext4 --raw", "An image to mount elsewhere"],
  ]);
}

/** `snapshots import`. */
export function addImportCommand(snapshots: Command): void {
  const command = snapshots
    .command("import")
    .description("Make a snapshot of what `snapshots export` wrote, or of an ext4 image, and print its id")
    .argument("[file]", "-: standard input", STANDARD)
    .requiredOption("--slug <slug>", "the snapshot's slug")
    .option("--region <region>", "where (default: the server's first region)")
    .option("--label <key=value>", "a label (repeatable; default: those in the file)", collect)
    .option("--raw", "it is the image of an ext4 file system, without a partition table")
    .option("--bootable", "with --raw: sandboxes may boot from it")
    .action(run(importFrom));
  addCommonOptions(command);
  addExamples(command, [
    ["caisson snapshots import tools-v1.snapshot --slug tools-v1", "What `caisson snapshots export` wrote"],
    ["caisson snapshots import disk.ext4 --raw --slug dataset-v1", "An image made with mkfs.ext4"],
  ]);
}

async function exportTo(context: Context, name: string, file: string, { raw = false }: ExportFlags): Promise<void> {
  if (file === STANDARD && process.stdout.isTTY)
    throw usageError("A terminal cannot show a snapshot", "Give a file, or send the output to another program.");
  const mode = file === STANDARD ? null : await modeFor(file);
  const { client } = await context.connect();
  await withInterrupt(async (signal) => {
    const { slug } = await requireFound(client, "snapshot", name, client.snapshots.get(name, { signal }));
    const open = () => client.snapshots.export(name, { raw, signal });
    const stream = await withSuggestion(client, "snapshot", name, () =>
      showingFetch(context.output, client, name, open),
    );
    using counted = await Counted.of(context, slug, null);
    const bytes = stream.pipeThrough(counted.transform());
    if (mode === null) {
      if (!(await pumpOutput(bytes, process.stdout))) throw new BrokenPipeError();
      return;
    }
    await writeWhole(file, mode, bytes);
    context.output.confirm(`Exported snapshot ${slug} to ${file} (${counted.text})`, {
      slug,
      file,
      bytes: counted.bytes,
    });
  });
}

async function importFrom(
  context: Context,
  file: string,
  { slug, region, label, raw = false, bootable = false }: ImportFlags,
): Promise<void> {
  if (file === STANDARD && process.stdin.isTTY)
    throw usageError("There is nothing to import on a terminal", "Give a file, or the output of another program.");
  if (bootable && !raw)
    throw usageError("--bootable has no meaning without --raw", "A snapshot file says itself whether it is bootable.");
  const init: SnapshotImportInit = {
    ...{ slug, raw, bootable },
    ...(region === undefined ? {} : { region }),
    ...(label === undefined ? {} : { labels: parsePairs("--label", label) }),
  };
  const { client } = await context.connect();
  await withInterrupt(async (signal) => {
    const { stream, sizeBytes } =
      file === STANDARD ? { stream: process.stdin, sizeBytes: null } : await openInput(file);
    try {
      using counted = await Counted.of(context, file === STANDARD ? slug : basename(file), sizeBytes);
      const snapshot = await client.snapshots.import(counted.watch(stream), init, { signal });
      context.output.value(snapshot.id, snapshot);
    } finally {
      stream.destroy();
    }
  });
}

/** The permissions of the file that is to be written: those that it has, or the usual ones. Throws for what is there and is no file. */
async function modeFor(file: string): Promise<number> {
  const there = await stat(file).catch(() => null);
  if (there === null) {
    const directory = dirname(file);
    if (
      await stat(directory).then(
        (info) => info.isDirectory(),
        () => false,
      )
    )
      return 0o666;
    throw new CliError(
      "ENOENT",
      EXIT.notFound,
      `There is no directory ${directory}`,
      `Make it: mkdir -p ${quote(directory)}`,
    );
  }
  if (there.isFile()) return there.mode & 0o777;
  throw usageError(`${file} is no file`, "Name a file, or - for standard output.");
}

/** Writes a file beside its place, and moves it there when it is whole and durable: an export that was cut off leaves what was there. */
async function writeWhole(file: string, mode: number, bytes: ReadableStream<Uint8Array>): Promise<void> {
  const partial = join(dirname(file), `.${basename(file)}.${randomUUID().slice(0, 8)}.part`);
  try {
    {
      await using handle = await open(partial, "wx", mode);
      for await (const piece of bytes) await handle.writeFile(piece);
      await handle.sync();
    }
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

/** Counts what passes, and shows it where a person watches. */
class Counted implements Disposable {
  readonly #progress: CopyProgress;
  readonly #name: string;

  private constructor(progress: CopyProgress, name: string) {
    this.#progress = progress;
    this.#name = name;
  }

  static async of(context: Context, name: string, totalBytes: number | null): Promise<Counted> {
    const { CopyProgress: Progress } = await import("../copy/progress.ts");
    return new Counted(new Progress(totalBytes, context.output.isWatched), name);
  }

  get bytes(): number {
    return this.#progress.bytes;
  }

  /** How much that was, and how long it took. */
  get text(): string {
    return `${formatSize(this.bytes)} in ${formatDuration(this.#progress.elapsedMs)}`;
  }

  transform(): TransformStream<Uint8Array, Uint8Array> {
    return new TransformStream({
      transform: (piece, controller) => {
        this.#add(piece);
        controller.enqueue(piece);
      },
    });
  }

  async *watch(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
    for await (const piece of pieces) {
      this.#add(piece);
      yield piece;
    }
  }

  [Symbol.dispose](): void {
    this.#progress[Symbol.dispose]();
  }

  #add(piece: Uint8Array): void {
    this.#progress.report({
      path: this.#name,
      transferredBytes: this.bytes + piece.length,
      completedFiles: 0,
    });
  }
}
