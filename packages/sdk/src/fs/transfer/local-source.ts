import { constants, type Dirent, type Stats } from "node:fs";
import { type FileHandle, lstat, open, readdir, readlink, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import { isZero } from "./is-zero.ts";
import { fromLocalName, toLocalPath } from "./local-name.ts";
import {
  type Block,
  type Description,
  type EntryKind,
  hasHoles,
  type ListedEntry,
  type Source,
  type SourceFile,
} from "./sides.ts";

/** How much is read at a time. */
const BLOCK_BYTES = 256 * 1024;

/** A named pipe that takes a file's place must not make anybody wait for its writer, and a link must not lead elsewhere. */
const READ = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0);

/** This machine. */
export const localSource: Source = {
  resolve: (path) => realpath(path),
  nameOf: basename,
  join,
  async describe(path): Promise<Description> {
    const info = await lstat(toLocalPath(path));
    return { kind: kindOf(info), mode: info.mode, size: info.size };
  },
  async list(directory): Promise<ListedEntry[]> {
    const entries = await readdir(toLocalPath(directory), { withFileTypes: true });
    // The text of a name that is not UTF-8 is not enough, and not every runtime has the types beside the bytes.
    if (entries.some(({ name }) => name.includes("\ufffd"))) return await listByBytes(directory);
    return entries.map((entry) => ({ name: entry.name, kind: listedKindOf(entry) }));
  },
  async openFile(path): Promise<SourceFile | null> {
    let file: FileHandle;
    try {
      file = await open(toLocalPath(path), READ);
    } catch (error) {
      // ENXIO is a socket, ELOOP a link.
      if (error instanceof Error && "code" in error && (error.code === "ENXIO" || error.code === "ELOOP")) return null;
      throw error;
    }
    const info = await file.stat();
    if (info.isFile()) return new LocalFile(file, info);
    await file.close();
    return null;
  },
  readLink: async (path) => fromLocalName(await readlink(toLocalPath(path), "buffer")),
};

async function listByBytes(directory: string): Promise<ListedEntry[]> {
  const names = (await readdir(toLocalPath(directory), "buffer")).map(fromLocalName);
  return await Promise.all(
    names.map(async (name) => ({ name, kind: listedKindOf(await lstat(toLocalPath(join(directory, name)))) })),
  );
}

function listedKindOf(info: Stats | Dirent): ListedEntry["kind"] {
  const kind = kindOf(info);
  return kind === "file" || kind === "directory" || kind === "link" ? kind : "special";
}

function kindOf(info: Stats | Dirent): EntryKind {
  if (info.isFile()) return "file";
  if (info.isDirectory()) return "directory";
  if (info.isSymbolicLink()) return "link";
  if (info.isFIFO()) return "pipe";
  return info.isSocket() ? "socket" : "device";
}

class LocalFile implements SourceFile {
  readonly mode: number;
  readonly size: number;
  readonly isSparse: boolean;
  readonly #file: FileHandle;

  constructor(file: FileHandle, info: Stats) {
    this.#file = file;
    this.mode = info.mode;
    this.size = info.size;
    this.isSparse = hasHoles(info);
  }

  readAll(): Promise<Uint8Array> {
    return this.#file.readFile();
  }

  async *readBlocks(): AsyncIterable<Block> {
    for (;;) {
      const block = new Uint8Array(BLOCK_BYTES);
      const { bytesRead } = await this.#file.read(block, 0, BLOCK_BYTES, null);
      if (bytesRead === 0) return;
      const bytes = block.subarray(0, bytesRead);
      yield this.isSparse && isZero(bytes) ? bytesRead : bytes;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
