/** Options for reading a whole file. */
export interface ReadFileOptions {
  /** Breaks the reading off. */
  signal?: AbortSignal;
}

/** Options for writing a whole file. */
export interface WriteFileOptions {
  /** Add to the end instead of replacing the content. Default: false. */
  append?: boolean;
  /** Make the file when it does not exist. Default: true. */
  create?: boolean;
  /** Fail when anything exists at the path. Default: false; when true, `create` is ignored. */
  createNew?: boolean;
  /** Permissions to give the file. */
  mode?: number;
  /** Breaks the writing off; the file may then hold a part. */
  signal?: AbortSignal;
}

/** Options for making a directory. */
export interface MkdirOptions {
  /** Make missing parents too, and accept a directory that exists. Default: false. */
  recursive?: boolean;
  /** Permissions of the new directory, reduced by the umask. Default: 0o777. */
  mode?: number;
  /** Ends the call. */
  signal?: AbortSignal;
}

/** Options for removing. */
export interface RemoveOptions {
  /** Remove a directory with everything in it. Default: false. */
  recursive?: boolean;
  /** Ends the call. */
  signal?: AbortSignal;
}

/** Options for opening a file. Without any, it is opened for reading. */
export interface OpenOptions {
  /** Allow reading. Default: true when no other access is asked for. */
  read?: boolean;
  /** Allow writing. Default: false. */
  write?: boolean;
  /** Write at the end of the file always; implies `write`. Default: false. */
  append?: boolean;
  /** Empty the file. Needs `write`. Default: false. */
  truncate?: boolean;
  /** Make the file when it does not exist. Needs `write` or `append`. Default: false. */
  create?: boolean;
  /** Fail when anything exists at the path; then `create` and `truncate` are ignored. Default: false. */
  createNew?: boolean;
  /** Permissions of a new file, reduced by the umask. Default: 0o666. */
  mode?: number;
  /** Ends the call. */
  signal?: AbortSignal;
}

/** Where and how to name a temporary file or directory. */
export interface MakeTempOptions {
  /** The directory to make it in. Default: `/tmp`. */
  dir?: string;
  /** How its name begins. */
  prefix?: string;
  /** How its name ends. */
  suffix?: string;
  /** Ends the call. */
  signal?: AbortSignal;
}

/** One entry of a directory. */
export interface DirEntry {
  /** The name, without the path. */
  name: string;
  /** A regular file. */
  isFile: boolean;
  /** A directory. */
  isDirectory: boolean;
  /** A symbolic link. */
  isSymlink: boolean;
}

/** A file or directory that `walk` or `expandGlob` found. */
export interface WalkEntry extends DirEntry {
  /** The path: the root of the walk joined with the names below it, or absolute for globs. */
  path: string;
}

/** Options for walking a directory tree, as in the Deno standard library (`@std/fs`). */
export interface WalkOptions {
  /** How far to descend; 0 yields the root alone. Default: without limit. */
  maxDepth?: number;
  /** Yield files. Default: true. */
  includeFiles?: boolean;
  /** Yield directories. Default: true. */
  includeDirs?: boolean;
  /** Yield symbolic links. Default: true. */
  includeSymlinks?: boolean;
  /** Go on where links lead. Default: false. */
  followSymlinks?: boolean;
  /** With `followSymlinks`: yield the paths that the links lead to. Default: true. */
  canonicalize?: boolean;
  /** Yield only paths that end with one of these. */
  exts?: string[];
  /** Yield only paths that match one of these. */
  match?: RegExp[];
  /** Neither yield nor enter paths that match one of these. */
  skip?: RegExp[];
  /** Ends the walk. */
  signal?: AbortSignal;
}

/** Options for expanding a glob, as in the Deno standard library (`@std/fs`). */
export interface ExpandGlobOptions {
  /** Understand groups such as `@(a|b)`. Default: true. */
  extended?: boolean;
  /** Understand `**`. Default: true. */
  globstar?: boolean;
  /** Do not tell capital letters from small ones. Default: false. */
  caseInsensitive?: boolean;
  /** The directory that relative globs start from. Default: the sandbox's default directory. */
  root?: string;
  /** Globs of what to leave out. */
  exclude?: string[];
  /** Yield directories. Default: true. */
  includeDirs?: boolean;
  /** Go on where links lead. Default: false. */
  followSymlinks?: boolean;
  /** With `followSymlinks`: yield the paths that the links lead to. Default: true. */
  canonicalize?: boolean;
  /** Ends the search. */
  signal?: AbortSignal;
}

/** How far an upload or a download is. */
export interface TransferProgress {
  /** The local path or the path in the sandbox, whichever is the source. */
  path: string;
  /** Bytes that were transferred so far, over all files. */
  transferredBytes: number;
  /** Files that are complete. */
  completedFiles: number;
}

/**
 * Why something was left out of a copy: it is a named pipe (`"pipe"`), a socket or a device; its name is not UTF-8, and this
 * runtime or that server cannot carry it (`"name"`; Node.js and Caisson can); reading it is not permitted (`"unreadable"`); or it vanished during the copy (`"gone"`).
 */
export type SkipReason = "pipe" | "socket" | "device" | "name" | "unreadable" | "gone";

/** Something that was left out of a copy. */
export interface SkippedFile {
  /** The path in the source. */
  path: string;
  /** Why. */
  reason: SkipReason;
  /** Both in a sentence. */
  message: string;
}

/** Options of uploads, downloads and copies between sandboxes. */
export interface TransferOptions {
  /** Breaks the transfer off; what was transferred stays. */
  signal?: AbortSignal;
  /** Called after each block. */
  onProgress?: (progress: TransferProgress) => void;
  /** Called with each thing that is left out. Default: one warning of the process (`process.emitWarning`) at the end. */
  onSkip?: (skipped: SkippedFile) => void;
}
