import { lstat, open, opendir, readlink, realpath } from "node:fs/promises";
import { basename, join, posix, relative, sep } from "node:path";
import { errors } from "../internal/error-object.ts";
import type { TransferOptions } from "./options.ts";
import type { SandboxFs } from "./sandbox-fs.ts";
import { forEachInParallel, linkText, TransferCounter } from "./transfer.ts";

/** How much is read from a local file at a time. */
const BLOCK_BYTES = 256 * 1024;

/** Copies a local file or directory into the sandbox. See {@linkcode SandboxFs.upload}. */
export async function upload(
  fs: SandboxFs,
  localPath: string,
  sandboxPath: string,
  options: TransferOptions,
): Promise<void> {
  const root = await realpath(localPath);
  const counter = new TransferCounter(options);
  const info = await lstat(root);
  if (!info.isDirectory()) {
    await uploadFile(fs, root, sandboxPath, options, counter);
    return;
  }
  const target = posix.join(sandboxPath, basename(root));
  await forEachInParallel(localTree(root, fs, target), options.signal, async ({ path, kind }) => {
    const copy = toTarget(path, root, target);
    if (kind === "link") await uploadLink(fs, path, copy, root);
    else await uploadFile(fs, path, copy, options, counter);
  });
}

/** Yields files and links below the root. Each directory is made in the sandbox before anything in it is yielded. */
async function* localTree(
  root: string,
  fs: SandboxFs,
  target: string,
): AsyncIterableIterator<{ readonly path: string; readonly kind: "file" | "link" }> {
  const directories = [root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    await fs.mkdir(toTarget(directory, root, target), { recursive: true });
    for await (const entry of await opendir(directory)) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) directories.push(path);
      else yield { path, kind: entry.isSymbolicLink() ? "link" : "file" };
    }
  }
}

function toTarget(path: string, root: string, target: string): string {
  return posix.join(target, relative(root, path).split(sep).join("/"));
}

async function uploadLink(fs: SandboxFs, path: string, copy: string, root: string): Promise<void> {
  const text = linkText(await readlink(path), path, root);
  try {
    await fs.symlink(text, copy);
  } catch (error) {
    if (!(error instanceof errors.AlreadyExists)) throw error;
    // An upload replaces what is there, links like files.
    await fs.remove(copy);
    await fs.symlink(text, copy);
  }
}

async function uploadFile(
  fs: SandboxFs,
  path: string,
  copy: string,
  { signal }: TransferOptions,
  counter: TransferCounter,
): Promise<void> {
  const file = await open(path, "r");
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new TypeError(`Cannot upload ${path}: it is neither a file, a directory nor a link`);
    const content = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const block = new Uint8Array(BLOCK_BYTES);
          const { bytesRead } = await file.read(block, 0, BLOCK_BYTES, null);
          if (bytesRead === 0) {
            controller.close();
            return;
          }
          controller.enqueue(block.subarray(0, bytesRead));
          counter.addBytes(path, bytesRead);
        },
      },
      { highWaterMark: 0 },
    );
    await fs.writeFile(copy, content, { mode: info.mode & 0o777, ...(signal === undefined ? {} : { signal }) });
  } finally {
    await file.close();
  }
  counter.addFile(path);
}
