/** What stands at a path. */
export type EntryKind = "file" | "directory" | "link" | "pipe" | "socket" | "device";

/** What is known of an entry. */
export interface Description {
  readonly kind: EntryKind;
  /** Permissions. */
  readonly mode: number;
  /** In bytes. A file may have more or less by the time it is read. */
  readonly size: number;
}

/** An entry of a directory. A listing tells special files from others, but not which kind they are of. */
export interface ListedEntry {
  readonly name: string;
  readonly kind: "file" | "directory" | "link" | "special";
}

/** A piece of a file: bytes, or so many zeros, which only files with holes have. */
export type Block = Uint8Array | number;

export function lengthOf(block: Block): number {
  return typeof block === "number" ? block : block.byteLength;
}

const ZEROS = new Uint8Array(64 * 1024);

/** The same with all zeros written out, for where there are no holes. */
export async function* filled(blocks: AsyncIterable<Block>): AsyncIterable<Uint8Array> {
  for await (const block of blocks) {
    if (typeof block !== "number") yield block;
    else for (let left = block; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length));
  }
}

/** True when a file has less room than its size, so that it must have holes. */
export function hasHoles({ size, blocks }: { readonly size: number; readonly blocks: number | null }): boolean {
  return blocks !== null && blocks * 512 < size;
}

/** What a file holds, and how it is written. */
export interface Content {
  /** Whether the copy is to have holes too: where the original has them, and where it has blocks of zeros. */
  readonly isSparse: boolean;
  readonly blocks: AsyncIterable<Block>;
}

/** An open file of a source. */
export interface SourceFile extends AsyncDisposable {
  readonly mode: number;
  readonly size: number;
  readonly isSparse: boolean;
  /** The whole content, for files that are small. */
  readAll(): Promise<Uint8Array>;
  /** The content in pieces. Those of a sparse file but the last are multiples of 4 KiB. */
  readBlocks(): AsyncIterable<Block>;
}

/** Where a transfer reads: this machine or a sandbox. Failures are those of the platform, with the errno's name in `code`. */
export interface Source {
  /** The absolute path, with all links followed. */
  resolve(path: string): Promise<string>;
  /** The name of the last part of an absolute path. */
  nameOf(path: string): string;
  join(directory: string, name: string): string;
  /** Does not follow links. */
  describe(path: string): Promise<Description>;
  /** Of a name that is not UTF-8 the bytes that are none are lone surrogates; a host that cannot tell them lists U+FFFD, under which nothing is found. */
  list(directory: string): Promise<readonly ListedEntry[]>;
  /** Opens a regular file without waiting for anybody; `null` when it is none, or none any more. */
  openFile(path: string): Promise<SourceFile | null>;
  readLink(path: string): Promise<string>;
}

/**
 * Where a transfer writes. In a tree nothing is followed or waited for that is in the way: special files and, on this machine, links are
 * replaced, read-only files too.
 */
export interface Target {
  /** The absolute path of a directory that is to be made, or the path as it is. */
  resolve(path: string): string;
  join(directory: string, name: string): string;
  /** Makes a directory, unless it is there, that can be written into; with the parents of the root. Returns how to finish it, if need be. */
  makeDirectory(path: string, mode: number, isRoot: boolean): Promise<(() => Promise<void>) | null>;
  writeFile(path: string, content: Uint8Array, mode: number): Promise<void>;
  writeBlocks(path: string, content: Content, mode: number): Promise<void>;
  /** Writes over the file at a path of the caller's own, where a link is followed, as cp does. */
  overwrite(path: string, content: Content, mode: number): Promise<void>;
  /** Makes a link, in the place of a file or link that is there. */
  link(path: string, text: string): Promise<void>;
}

/** The permissions in a mode. */
export function permissions(mode: number): number {
  return mode & 0o777;
}
