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

/** An open file of a source. */
export interface SourceFile extends AsyncDisposable {
  readonly mode: number;
  readonly size: number;
  /** The whole content, for files that are small. */
  readAll(): Promise<Uint8Array>;
  /** The content in pieces. */
  readBlocks(): AsyncIterable<Uint8Array>;
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
  /** A name that is not UTF-8 is listed with replacement characters, under which nothing is found. */
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
  writeBlocks(path: string, blocks: AsyncIterable<Uint8Array>, mode: number): Promise<void>;
  /** Writes over the file at a path of the caller's own, where a link is followed, as cp does. */
  overwrite(path: string, blocks: AsyncIterable<Uint8Array>, mode: number): Promise<void>;
  /** Makes a link, in the place of a file or link that is there. */
  link(path: string, text: string): Promise<void>;
}

/** The permissions in a mode. */
export function permissions(mode: number): number {
  return mode & 0o777;
}
