import { posix } from "node:path";
import { errors, type FsFile, type SandboxFs, type TransferOptions, type WalkEntry } from "@caisson/sdk";

const PARALLEL_FILES = 8;
const BLOCK_BYTES = 1024 * 1024;

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
    if (entry.isSymlink) await relayLink(await source.readLink(entry.path), target, copy);
    else if (entry.isDirectory) await target.mkdir(copy, { recursive: true });
    else files.push(entry);
  }
  const remaining = files.values();
  const worker = async (): Promise<void> => {
    for (const entry of remaining) await relayFile(source, entry.path, target, inside(base, root, entry.path), counter);
  };
  await Promise.all(Array.from({ length: PARALLEL_FILES }, worker));
}

/** Replaces what is there, as a copy does with files. */
async function relayLink(text: string, target: SandboxFs, copy: string): Promise<void> {
  try {
    await target.symlink(text, copy);
  } catch (error) {
    if (!(error instanceof errors.AlreadyExists)) throw error;
    await target.remove(copy);
    await target.symlink(text, copy);
  }
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
  const { signal } = counter.options;
  const content = ReadableStream.from(readBlocks(file, (bytes) => counter.addBytes(path, bytes)));
  await target.writeFile(to, content, { mode: mode & 0o777, ...(signal === undefined ? {} : { signal }) });
  counter.addFile(path);
}

/** Each read is a round trip, so the next block is asked for while this one is sent on. */
async function* readBlocks(file: FsFile, onBlock: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  const readBlock = async (): Promise<Uint8Array | null> => {
    const block = new Uint8Array(BLOCK_BYTES);
    const length = await file.read(block);
    return length === null ? null : block.subarray(0, length);
  };
  let next = readBlock();
  for (let block = await next; block !== null; block = await next) {
    next = readBlock();
    // A failure is thrown by the turn that awaits it; until then it must not count as unhandled.
    next.catch(() => undefined);
    yield block;
    onBlock(block.byteLength);
  }
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
