import type { WalkEntry } from "@caisson/protocol/rpc-methods";
import { type GlobOptions, globToRegExp } from "./glob-to-reg-exp.ts";
import { isGlob, unescapeGlob } from "./is-glob.ts";
import { absolutePath, joinPath, normalizePath } from "./path-text.ts";
import { isUnreachable, type WalkOptions, walk, walkEntry } from "./walk.ts";

export interface ExpandGlobOptions extends GlobOptions {
  /** Where a relative glob starts; itself relative to `directory`, which is the default. */
  readonly root: string | undefined;
  /** Where relative paths start. Absolute. */
  readonly directory: string;
  /** Globs, relative to the root, of what is left out together with all below it. */
  readonly exclude: readonly string[];
  readonly includeDirs: boolean;
  readonly followSymlinks: boolean;
  readonly canonicalize: boolean;
  /** As for `walk`. */
  readonly escapeNames: boolean;
  /** Ends the expansion early when it aborts. */
  readonly signal: AbortSignal;
}

const WALK_ALL: Omit<WalkOptions, "signal" | "escapeNames"> = {
  maxDepth: Number.POSITIVE_INFINITY,
  includeFiles: true,
  includeDirs: true,
  includeSymlinks: true,
  followSymlinks: false,
  canonicalize: true,
  exts: undefined,
  match: undefined,
  skip: undefined,
};

/** The paths that the walk meets here are absolute already. */
const asIs = (path: string): string => path;

/**
 * Yields the entries that a glob names, as `expandGlob` of the Deno standard library (`@std/fs` 1.0.23) does (protocol.md 4.2.1). The glob
 * is followed segment by segment, so only directories that can hold a match are read; the matches of a segment are in memory together,
 * because they are sorted and freed of duplicates.
 */
export async function* expandGlob(glob: string, options: ExpandGlobOptions): AsyncGenerator<WalkEntry> {
  const expansion = new Expansion(glob, options);
  let matches = await expansion.start();
  for (const segment of expansion.patterns) matches = await expansion.advance(matches, segment);
  const wantsDirectories = glob.endsWith("/");
  yield* matches.filter(({ isDirectory }) => (isDirectory ? options.includeDirs : !wantsDirectories));
}

class Expansion {
  /** The segments from the first one with magic characters on. */
  readonly patterns: readonly string[];
  readonly #options: ExpandGlobOptions;
  readonly #skip: readonly RegExp[];
  readonly #fixedRoot: string;

  constructor(glob: string, options: ExpandGlobOptions) {
    const isAbsolute = glob.startsWith("/");
    const root = absolutePath(options.directory, options.root ?? (isAbsolute ? "/" : "."));
    this.#options = options;
    this.#skip = options.exclude.map((pattern) => globToRegExp(absolutePath(root, pattern), options));
    const segments = glob.replace(/^\/+|\/+$/g, "").split(/\/+/);
    const firstPattern = segments.findIndex(isGlob);
    const fixedCount = firstPattern === -1 ? segments.length : firstPattern;
    this.patterns = segments.slice(fixedCount);
    this.#fixedRoot = segments
      .slice(0, fixedCount)
      .reduce((path, segment) => this.#join(path, unescapeGlob(segment)), isAbsolute ? "/" : root);
  }

  /** The entry of the part without magic characters; nothing when it does not exist. */
  async start(): Promise<WalkEntry[]> {
    try {
      return [await walkEntry(this.#fixedRoot, asIs)];
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  /** The entries that `segment` names below the given ones, sorted by path. */
  async advance(matches: readonly WalkEntry[], segment: string): Promise<WalkEntry[]> {
    const found = new Map<string, WalkEntry>();
    for (const match of matches) {
      if (!match.isDirectory) continue;
      if (!this.#options.escapeNames && (await isUnreachable(match.path, match.name, asIs))) continue;
      for await (const entry of this.#below(match, segment)) found.set(entry.path, entry);
    }
    return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  }

  async *#below(directory: WalkEntry, segment: string): AsyncGenerator<WalkEntry> {
    const { globstar, followSymlinks, canonicalize, escapeNames, signal } = this.#options;
    if (segment === "..") {
      const parent = this.#join(directory.path, "..");
      if (!this.#skip.some((pattern) => pattern.test(parent))) yield await walkEntry(parent, asIs);
      return;
    }
    const walkOptions = { ...WALK_ALL, skip: this.#skip, followSymlinks, escapeNames, signal };
    if (segment === "**") {
      const maxDepth = globstar ? Number.POSITIVE_INFINITY : 1;
      yield* walk(directory.path, { ...walkOptions, maxDepth, canonicalize }, asIs);
      return;
    }
    const pattern = globToRegExp(segment, this.#options);
    for await (const entry of walk(directory.path, { ...walkOptions, maxDepth: 1 }, asIs)) {
      if (entry.path !== directory.path && pattern.test(entry.name)) yield entry;
    }
  }

  /** With globstar, `..` after a directory that is really called `**` stays, as in the library. */
  #join(directory: string, name: string): string {
    if (!this.#options.globstar) return joinPath(directory, name);
    const joined = name === "" ? directory : `${directory}/${name}`;
    if (joined.includes("\0")) throw new Error(`Glob contains invalid characters: ${JSON.stringify(joined)}`);
    return normalizePath(joined.replace(/(?<=(?:\/|^)\*\*\/)\.\.(?=\/|$)/g, "\0")).replaceAll("\0", "..");
  }
}
