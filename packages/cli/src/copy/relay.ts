import { posix } from "node:path";
import type { SandboxFs, TransferOptions, WalkEntry } from "@caisson/sdk";

const PARALLEL_FILES = 8;

/**
 * Copies a file or directory from one sandbox to another through this process, without a copy on this machine's disk. Works like
 * `upload`: a file becomes `target`; a directory goes into the directory `target`, under its own name.
 */
export async function relay(
  source: SandboxFs,
  path: string,
  target: SandboxFs,
  to: string,
  options: TransferOptions,
): Promise<void> {
  const counter = new Counter(options);
  if ((await source.stat(path)).isFile) {
    await relayFile(source, path, target, to, counter);
    return;
  }
  const root = await source.realPath(path);
  const base = posix.join(to, posix.basename(root));
  await target.mkdir(base, { recursive: true });
  const files: WalkEntry[] = [];
  // The walk yields a directory before what is in it.
  for await (const entry of source.walk(root)) {
    options.signal?.throwIfAborted();
    const copy = inside(base, root, entry.path);
    if (entry.isSymlink) await target.symlink(await source.readLink(entry.path), copy);
    else if (entry.isDirectory) await target.mkdir(copy, { recursive: true });
    else files.push(entry);
  }
  const remaining = files.values();
  const worker = async (): Promise<void> => {
    for (const entry of remaining) await relayFile(source, entry.path, target, inside(base, root, entry.path), counter);
  };
  await Promise.all(Array.from({ length: PARALLEL_FILES }, worker));
}

async function relayFile(
  source: SandboxFs,
  path: string,
  target: SandboxFs,
  to: string,
  counter: Counter,
): Promise<void> {
  counter.options.signal?.throwIfAborted();
  const { mode } = await source.stat(path);
  await using file = await source.open(path, { read: true });
  const counted = file.readable.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        counter.addBytes(path, chunk.byteLength);
        controller.enqueue(chunk);
      },
    }),
  );
  const { signal } = counter.options;
  await target.writeFile(to, counted, { mode: mode & 0o777, ...(signal === undefined ? {} : { signal }) });
  counter.addFile(path);
}

/** The path of the copy. What the other sandbox reports is not trusted to lie below the root. */
function inside(base: string, root: string, path: string): string {
  const copy = posix.join(base, posix.relative(root, path));
  if (copy === base || copy.startsWith(`${base}/`)) return copy;
  throw new TypeError(`Refused to copy ${JSON.stringify(path)}: it lies outside ${JSON.stringify(root)}`);
}

class Counter {
  readonly options: TransferOptions;
  #transferredBytes = 0;
  #completedFiles = 0;

  constructor(options: TransferOptions) {
    this.options = options;
  }

  addBytes(path: string, bytes: number): void {
    this.#transferredBytes += bytes;
    this.#report(path);
  }

  addFile(path: string): void {
    this.#completedFiles += 1;
    this.#report(path);
  }

  #report(path: string): void {
    this.options.onProgress?.({ path, transferredBytes: this.#transferredBytes, completedFiles: this.#completedFiles });
  }
}
