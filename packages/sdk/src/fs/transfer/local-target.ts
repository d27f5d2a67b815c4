import { constants } from "node:fs";
import { chmod, type FileHandle, lstat, mkdir, open, stat, symlink, unlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { isZero } from "./is-zero.ts";
import { toLocalPath } from "./local-name.ts";
import { type Content, filled, lengthOf, type Target } from "./sides.ts";

const OWNER = 0o700;
const { O_WRONLY, O_CREAT, O_EXCL, O_TRUNC } = constants;
/** Follows no link, and waits for no reader of a named pipe. */
const WRITE = O_WRONLY | O_CREAT | O_TRUNC | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
/** What stands in the way of a file: a link, a pipe or socket without a reader, or a file that may not be written. */
const IN_THE_WAY = ["ELOOP", "ENXIO", "EACCES"];
/** No hole is smaller, on nearly all file systems. */
const HOLE_BYTES = 4096;

/**
 * This machine. A sandbox whose content is written is not trusted, and may have put a link there by an earlier copy: a link that is in the
 * way is removed and never followed, so that nothing is written outside the directory.
 */
export const localTarget: Target = {
  resolve: (path) => resolve(path),
  join,

  async makeDirectory(path, mode, isRoot) {
    // Links on the way to the root are the caller's and are followed.
    if (isRoot) await mkdir(toLocalPath(dirname(path)), { recursive: true });
    const finish = (): Promise<void> => chmod(toLocalPath(path), mode);
    for (;;) {
      try {
        await mkdir(toLocalPath(path), { mode: mode | OWNER });
        return finish;
      } catch (error) {
        if (!hasCode(error, "EEXIST")) throw error;
      }
      const existing = await lstat(toLocalPath(path));
      if (existing.isSymbolicLink()) await unlink(toLocalPath(path));
      else if (!existing.isDirectory()) throw new TypeError(`Cannot copy a directory to ${path}: there is a file`);
      else if ((existing.mode & OWNER) === OWNER) return null;
      else {
        // An earlier copy of a read-only directory.
        await chmod(toLocalPath(path), existing.mode | OWNER);
        return finish;
      }
    }
  },

  async writeFile(path, content, mode) {
    await using file = await openInTree(path, mode);
    await file.writeFile(content);
    // The mode given to `open` is reduced by the umask and does not touch a file that exists.
    await file.chmod(mode);
  },

  async writeBlocks(path, content, mode) {
    await using file = await openInTree(path, mode);
    await writeContent(file, content);
    await file.chmod(mode);
  },

  async overwrite(path, content, mode) {
    const existing = await stat(toLocalPath(path)).catch(() => null);
    if (existing?.isFIFO() || existing?.isSocket()) {
      throw new TypeError(`Cannot copy a file to ${path}: it is a named pipe or a socket`);
    }
    await using file = await open(toLocalPath(path), "w", mode);
    if (existing !== null && !existing.isFile()) {
      for await (const block of filled(content.blocks)) await file.writeFile(block);
      return;
    }
    await writeContent(file, content);
    await file.chmod(mode);
  },

  async link(path, text) {
    try {
      await symlink(toLocalPath(text), toLocalPath(path));
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
      await unlink(toLocalPath(path));
      await symlink(toLocalPath(text), toLocalPath(path));
    }
  },
};

async function openInTree(path: string, mode: number): Promise<FileHandle> {
  try {
    // Nearly always there is nothing, and what is new is a file without asking.
    return await open(toLocalPath(path), WRITE | O_EXCL, mode);
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  }
  try {
    const file = await open(toLocalPath(path), WRITE, mode);
    if ((await file.stat()).isFile()) return file;
    await file.close();
  } catch (error) {
    if (!IN_THE_WAY.some((code) => hasCode(error, code))) throw error;
  }
  await unlink(toLocalPath(path));
  return await open(toLocalPath(path), WRITE | O_EXCL, mode);
}

/** Of sparse content, leaves out blocks of zeros, which then take no room. */
async function writeContent(file: FileHandle, { isSparse, blocks }: Content): Promise<void> {
  let position = 0;
  for await (const block of blocks) {
    if (typeof block !== "number") {
      for (const { start, bytes } of isSparse ? partsWithData(block) : [{ start: 0, bytes: block }])
        await writeAt(file, bytes, position + start);
    }
    position += lengthOf(block);
  }
  await file.truncate(position);
}

async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.byteLength; )
    written += (await file.write(bytes, written, bytes.byteLength - written, position + written)).bytesWritten;
}

/** The parts between the holes, as long as possible. */
function* partsWithData(block: Uint8Array): Iterable<{ readonly start: number; readonly bytes: Uint8Array }> {
  const isHole = (start: number): boolean => isZero(block.subarray(start, start + HOLE_BYTES));
  for (let start = 0; start < block.byteLength; ) {
    let end = start;
    while (end < block.byteLength && !isHole(end)) end += HOLE_BYTES;
    if (end > start) yield { start, bytes: block.subarray(start, end) };
    start = end + HOLE_BYTES;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
