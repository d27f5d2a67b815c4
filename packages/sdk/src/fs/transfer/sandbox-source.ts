import { posix } from "node:path";
import type { FileInfo } from "../file-info.ts";
import type { FsFile } from "../fs-file.ts";
import type { SandboxFs } from "../sandbox-fs.ts";
import {
  type Block,
  type Description,
  type EntryKind,
  hasHoles,
  type ListedEntry,
  lengthOf,
  type Source,
  type SourceFile,
} from "./sides.ts";

/** How much one call reads. Each call costs a round trip, so this is larger than what streams use. */
const BLOCK_BYTES = 1024 * 1024;

/** A sandbox, read until the signal is aborted. */
export class SandboxSource implements Source {
  readonly #fs: SandboxFs;
  readonly #options: { readonly signal?: AbortSignal };

  constructor(fs: SandboxFs, signal: AbortSignal | undefined) {
    this.#fs = fs;
    this.#options = signal === undefined ? {} : { signal };
  }

  resolve(path: string): Promise<string> {
    return this.#fs.realPath(path, this.#options);
  }

  nameOf(path: string): string {
    return posix.basename(path);
  }

  join(directory: string, name: string): string {
    return posix.join(directory, name);
  }

  async describe(path: string): Promise<Description> {
    const info = await this.#fs.lstat(path, this.#options);
    return { kind: kindOf(info), mode: info.mode, size: info.size };
  }

  async list(directory: string): Promise<ListedEntry[]> {
    const entries: ListedEntry[] = [];
    for await (const { name, isFile, isDirectory, isSymlink } of this.#fs.readDir(directory, this.#options)) {
      entries.push({ name, kind: isFile ? "file" : isDirectory ? "directory" : isSymlink ? "link" : "special" });
    }
    return entries;
  }

  async openFile(path: string): Promise<SourceFile | null> {
    const info = await this.#fs.lstat(path, this.#options);
    return info.isFile ? new SandboxFile(this.#fs, path, info, this.#options) : null;
  }

  readLink(path: string): Promise<string> {
    return this.#fs.readLink(path, this.#options);
  }
}

function kindOf(info: FileInfo): EntryKind {
  if (info.isFile) return "file";
  if (info.isDirectory) return "directory";
  if (info.isSymlink) return "link";
  if (info.isFifo) return "pipe";
  return info.isSocket ? "socket" : "device";
}

/** Opens nothing until it has to be read in pieces: a small file is one call. */
class SandboxFile implements SourceFile {
  readonly mode: number;
  readonly size: number;
  readonly isSparse: boolean;
  readonly #fs: SandboxFs;
  readonly #path: string;
  readonly #options: { readonly signal?: AbortSignal };

  constructor(fs: SandboxFs, path: string, info: FileInfo, options: { readonly signal?: AbortSignal }) {
    this.#fs = fs;
    this.#path = path;
    this.mode = info.mode;
    this.size = info.size;
    this.isSparse = hasHoles(info);
    this.#options = options;
  }

  readAll(): Promise<Uint8Array> {
    return this.#fs.readFile(this.#path, this.#options);
  }

  async *readBlocks(): AsyncIterable<Block> {
    await using file = await this.#fs.open(this.#path, { read: true, ...this.#options });
    // The next blocks are asked for while these are written.
    let next = this.#readNext(file);
    for (let blocks = await next; blocks !== null; blocks = await next) {
      next = this.#readNext(file);
      // A failure is thrown by the turn that awaits it; until then it must not count as unhandled.
      next.catch(() => undefined);
      yield* blocks.filter((block) => lengthOf(block) > 0);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #readNext(file: FsFile): Promise<readonly Block[] | null> {
    if (this.isSparse) {
      const found = await file.readSparsely(BLOCK_BYTES, this.#options);
      return found === null ? null : [found.zeros, found.data];
    }
    const block = new Uint8Array(BLOCK_BYTES);
    const length = await file.read(block, this.#options);
    return length === null ? null : [block.subarray(0, length)];
  }
}
