import type { WalkEntry } from "@caisson/protocol/rpc-methods";
import { lstat, reach, readDir, realPath } from "./names/reach.ts";
import { baseName, joinPath, normalizePath } from "./path-text.ts";

export interface WalkOptions {
  /** 0 is the root alone, 1 adds its children. */
  readonly maxDepth: number;
  readonly includeFiles: boolean;
  readonly includeDirs: boolean;
  readonly includeSymlinks: boolean;
  readonly followSymlinks: boolean;
  /** Followed links are reported with their real path. */
  readonly canonicalize: boolean;
  readonly exts: readonly string[] | undefined;
  readonly match: readonly RegExp[] | undefined;
  readonly skip: readonly RegExp[] | undefined;
  /** Names that are not UTF-8 are told so that they can be used, and their directories entered. */
  readonly escapeNames: boolean;
  /** Ends the walk early when it aborts, also where nothing passes the filters. */
  readonly signal: AbortSignal;
}

/** Turns a reported path, which may be relative, into one for the kernel. */
export type Resolve = (path: string) => string;

/**
 * Yields the entries below `root` as `walk` of the Deno standard library (`@std/fs` 1.0.23) does, one directory in memory per level
 * (protocol.md 4.2.1). Two of its properties are easy to miss: the root's own entry follows a symbolic link, and below the first level
 * `canonicalize` is always on.
 */
export async function* walk(root: string, options: WalkOptions, resolve: Resolve): AsyncGenerator<WalkEntry> {
  const exts = options.exts?.map((ext) => (ext.startsWith(".") ? ext : `.${ext}`));
  yield* walkDirectory(root, { ...options, exts }, resolve);
}

async function* walkDirectory(root: string, options: WalkOptions, resolve: Resolve): AsyncGenerator<WalkEntry> {
  const { maxDepth, includeFiles, includeDirs, includeSymlinks, followSymlinks, skip } = options;
  if (maxDepth < 0 || options.signal.aborted) return;
  if (includeDirs && passes(root, options)) yield await walkEntry(root, resolve);
  if (maxDepth < 1 || matchesAny(root, skip)) return;
  for await (const entry of readDir(resolve(root), options.escapeNames)) {
    let path = joinPath(root, entry.name);
    let { isDirectory, isSymlink } = entry;
    if (!options.escapeNames && (await isUnreachable(path, entry.name, resolve))) {
      if (isIncluded(entry, options) && passes(path, options)) yield { path, ...entry };
      continue;
    }
    if (isSymlink && !followSymlinks) {
      if (includeSymlinks && passes(path, options)) yield { path, ...entry };
      continue;
    }
    if (isSymlink) {
      const target = await realPath(resolve(path));
      if (options.canonicalize) path = target;
      ({ isDirectory, isSymlink } = await lstat(target));
    }
    // What a real path names can turn into a link before it is looked at; it is then walked like a directory.
    if (isDirectory || isSymlink) {
      yield* walkDirectory(path, { ...options, maxDepth: maxDepth - 1, canonicalize: true }, resolve);
    } else if (includeFiles && passes(path, options)) {
      yield { path, ...entry };
    }
  }
}

/**
 * Names are bytes to Linux and text on the wire, where each sequence that is not UTF-8 is U+FFFD (Deno's own reading of it), unless the client
 * asks for `escapeNames`. Such an entry is reported under that name, which shows that something is wrong with it, and neither entered nor followed: no path leads to it that a client
 * could send. Without this one such directory would end the walk with `NotFound`.
 */
export async function isUnreachable(path: string, name: string, resolve: Resolve): Promise<boolean> {
  if (!name.includes("\ufffd")) return false;
  try {
    // The character can also be part of a name that is UTF-8.
    await Deno.lstat(resolve(path));
    return false;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}

function isIncluded(entry: Deno.DirEntry, { includeFiles, includeDirs, includeSymlinks }: WalkOptions): boolean {
  if (entry.isSymlink) return includeSymlinks;
  return entry.isDirectory ? includeDirs : includeFiles;
}

/** The entry of one path, following symbolic links. */
export async function walkEntry(path: string, resolve: Resolve): Promise<WalkEntry> {
  const normalized = normalizePath(path);
  const { isFile, isDirectory, isSymlink } = await reach(resolve(normalized), Deno.stat);
  return { path: normalized, name: baseName(normalized), isFile, isDirectory, isSymlink };
}

function passes(path: string, { exts, match, skip }: WalkOptions): boolean {
  if (exts !== undefined && !exts.some((ext) => path.endsWith(ext))) return false;
  if (match !== undefined && !matchesAny(path, match)) return false;
  return !matchesAny(path, skip);
}

/** `match` and not `test`: with the flag `g` it always starts at the beginning. */
function matchesAny(path: string, patterns: readonly RegExp[] | undefined): boolean {
  return patterns?.some((pattern) => path.match(pattern) !== null) ?? false;
}
