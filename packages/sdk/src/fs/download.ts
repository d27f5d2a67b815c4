import { type FileHandle, open } from "node:fs/promises";
import { join, posix } from "node:path";
import { LocalTree } from "./local-tree.ts";
import type { TransferOptions, WalkEntry } from "./options.ts";
import type { SandboxFs } from "./sandbox-fs.ts";
import { forEachInParallel, isInside, linkText, TransferCounter } from "./transfer.ts";

/** How much one call reads. Each call costs a round trip, so this is larger than what streams use. */
const BLOCK_BYTES = 1024 * 1024;

/** Copies a file or directory of the sandbox to the local machine. See {@linkcode SandboxFs.download}. */
export async function download(
  fs: SandboxFs,
  sandboxPath: string,
  localPath: string,
  options: TransferOptions,
): Promise<void> {
  const root = await fs.realPath(sandboxPath);
  const counter = new TransferCounter(options);
  const info = await fs.stat(root);
  if (info.isFile) {
    // This path is the caller's own, so a link there is followed, as cp does.
    await downloadFile(fs, root, () => open(localPath, "w", info.mode & 0o777), info.mode, options, counter);
    return;
  }
  if (!info.isDirectory) throw new TypeError(`Cannot download ${root}: it is neither a file nor a directory`);

  const tree = new LocalTree(localPath, nameOf(root));
  const links: { readonly entry: WalkEntry; readonly copy: string }[] = [];
  await tree.makeDirectory(tree.root);
  await forEachInParallel(fs.walk(root), options.signal, async (entry) => {
    const copy = toTarget(entry.path, root, tree.root);
    if (entry.isSymlink) links.push({ entry, copy });
    else if (entry.isDirectory) await tree.makeDirectory(copy);
    else await downloadEntry(fs, entry, tree, copy, options, counter);
  });
  // Links come last: a file that is said to lie behind one would otherwise be written where the link leads, outside the target.
  for (const { entry, copy } of links) {
    options.signal?.throwIfAborted();
    await tree.link(copy, linkText(await fs.readLink(entry.path), entry.path, root));
  }
}

/** The name of the copy. The root of all files has none; its content goes into the directory itself. */
function nameOf(root: string): string {
  const name = posix.basename(root) || ".";
  if (name !== ".." && !name.includes("\\")) return name;
  throw new TypeError(`Refused to download ${JSON.stringify(root)}: its name leads outside the directory`);
}

/** The sandbox is not trusted: a path that leaves the directory is refused. */
function toTarget(path: string, root: string, target: string): string {
  const copy = join(target, posix.relative(root, path));
  if (posix.isAbsolute(path) && isInside(path, root) && isInside(copy, target)) return copy;
  throw new TypeError(`Refused to download ${JSON.stringify(path)}: it lies outside ${JSON.stringify(root)}`);
}

async function downloadEntry(
  fs: SandboxFs,
  entry: WalkEntry,
  tree: LocalTree,
  copy: string,
  options: TransferOptions,
  counter: TransferCounter,
): Promise<void> {
  const info = await fs.lstat(entry.path);
  if (!info.isFile) throw new TypeError(`Cannot download ${entry.path}: it is neither a file, a directory nor a link`);
  await downloadFile(fs, entry.path, () => tree.openFile(copy, info.mode & 0o777), info.mode, options, counter);
}

async function downloadFile(
  fs: SandboxFs,
  path: string,
  openTarget: () => Promise<FileHandle>,
  mode: number,
  { signal }: TransferOptions,
  counter: TransferCounter,
): Promise<void> {
  await using source = await fs.open(path, { read: true });
  const target = await openTarget();
  try {
    // The next block is asked for while this one is written.
    let next = readBlock(source, signal);
    for (let block = await next; block !== null; block = await next) {
      next = readBlock(source, signal);
      next.catch(() => undefined);
      await target.writeFile(block);
      counter.addBytes(path, block.byteLength);
    }
    // The mode given to `open` is reduced by the umask and does not touch a file that exists.
    await target.chmod(mode & 0o777);
  } finally {
    await target.close();
  }
  counter.addFile(path);
}

async function readBlock(
  source: { read(p: Uint8Array, options?: { signal?: AbortSignal | undefined }): Promise<number | null> },
  signal: AbortSignal | undefined,
): Promise<Uint8Array | null> {
  const block = new Uint8Array(BLOCK_BYTES);
  const length = await source.read(block, { signal });
  return length === null ? null : block.subarray(0, length);
}
