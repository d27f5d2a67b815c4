/**
 * Parameters and results of the 54 methods (protocol.md section 4), as JSON. An optional member may be absent or null. `null` as a
 * result is `{"ok": null}`. Bytes are base64 text and dates ISO 8601 text with `Z`.
 */
export type Base64 = string;
export type IsoDate = string;
type Maybe<T> = T | null | undefined;

interface Abortable {
  readonly abortId?: Maybe<number>;
}

interface Path {
  readonly path: string;
}

interface Handle {
  readonly fileHandleId: number;
}

export interface FileInfo {
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly isSymlink: boolean;
  readonly size: number;
  readonly mtime: IsoDate;
  readonly atime: IsoDate;
  readonly birthtime: IsoDate;
  readonly ctime: IsoDate;
  readonly dev: number;
  readonly ino: number;
  /** The whole `st_mode`. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  /** In units of 512 bytes. */
  readonly blocks: number;
  readonly isBlockDevice: boolean;
  readonly isCharDevice: boolean;
  readonly isFifo: boolean;
  readonly isSocket: boolean;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly isSymlink: boolean;
}

/**
 * Ours. A name's bytes that are not UTF-8 are told as the lone surrogate U+DC00 + byte, as Python has them, which every call that takes a path
 * understands. Without it they are U+FFFD, and nothing can be reached by such a name.
 */
export interface EscapeNames {
  readonly escapeNames?: boolean;
}

/** One chunk of the streams of `walk` and `expandGlob`. */
export interface WalkEntry extends DirectoryEntry {
  readonly path: string;
}

export interface WriteFileOptions {
  readonly append?: Maybe<boolean>;
  readonly create?: Maybe<boolean>;
  readonly createNew?: Maybe<boolean>;
  readonly mode?: Maybe<number>;
}

/** `content` or a stream with it: one of the two. */
export type WriteFileParams = Path &
  Abortable & { readonly options?: Maybe<WriteFileOptions> } & (
    | { readonly content: string }
    | { readonly contentStreamId: number }
  );

export interface MakeTempOptions {
  readonly dir?: Maybe<string>;
  readonly prefix?: Maybe<string>;
  readonly suffix?: Maybe<string>;
}

export interface WalkParams extends Path {
  readonly maxDepth?: Maybe<number>;
  readonly includeFiles?: Maybe<boolean>;
  readonly includeDirs?: Maybe<boolean>;
  readonly includeSymlinks?: Maybe<boolean>;
  readonly followSymlinks?: Maybe<boolean>;
  readonly canonicalize?: Maybe<boolean>;
  readonly exts?: Maybe<readonly string[]>;
  readonly match?: Maybe<readonly RegExpParams[]>;
  readonly skip?: Maybe<readonly RegExpParams[]>;
}

/** A JavaScript regular expression. */
export interface RegExpParams {
  readonly source: string;
  readonly flags: string;
}

export interface ExpandGlobParams {
  readonly glob: string;
  readonly extended?: Maybe<boolean>;
  readonly globstar?: Maybe<boolean>;
  readonly caseInsensitive?: Maybe<boolean>;
  readonly root?: Maybe<string>;
  readonly exclude?: Maybe<readonly string[]>;
  readonly includeDirs?: Maybe<boolean>;
  readonly followSymlinks?: Maybe<boolean>;
  readonly canonicalize?: Maybe<boolean>;
}

export interface OpenOptions {
  readonly read?: Maybe<boolean>;
  readonly write?: Maybe<boolean>;
  readonly append?: Maybe<boolean>;
  readonly truncate?: Maybe<boolean>;
  readonly create?: Maybe<boolean>;
  readonly createNew?: Maybe<boolean>;
  readonly mode?: Maybe<number>;
}

export type OutputMode = "piped" | "null";

interface ProcessParams {
  readonly env?: Maybe<Readonly<Record<string, string>>>;
  readonly clearEnv?: Maybe<boolean>;
  readonly cwd?: Maybe<string>;
  /** Absent: the process reads from `/dev/null`. */
  readonly stdinStreamId?: Maybe<number>;
  readonly stdout: OutputMode;
  readonly stderr: OutputMode;
}

export interface SpawnParams extends ProcessParams {
  readonly command: string;
  readonly args?: Maybe<readonly string[]>;
}

/** A stream id is null when that output is `"null"`. */
export interface SpawnResult {
  readonly pid: number;
  readonly stdoutStreamId: number | null;
  readonly stderrStreamId: number | null;
}

export interface ProcessStatus {
  readonly success: boolean;
  /** The exit code, or 128 and the signal's number. */
  readonly code: number;
  readonly signal: string | null;
  readonly oom: "high-confidence" | "low-confidence" | null;
}

interface PidParams {
  readonly pid: number;
}

/** `vscode` selects the separate pids of editors. */
interface ProcessPidParams extends PidParams {
  readonly vscode?: Maybe<boolean>;
}

export type DenoExtension = "js" | "cjs" | "mjs" | "ts" | "cts" | "mts" | "jsx" | "tsx";

export type SpawnDenoParams = ProcessParams & { readonly scriptArgs?: Maybe<readonly string[]> } & (
    | { readonly entrypoint: string; readonly watch?: Maybe<boolean | readonly string[]> }
    | { readonly code: string; readonly extension: DenoExtension }
  );

export interface FetchParams extends Abortable {
  readonly url: string;
  readonly method: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly redirect: "follow" | "manual";
  readonly bodyStreamId?: Maybe<number>;
  /** Delivers the request to the HTTP server of this Deno process. */
  readonly pid?: Maybe<number>;
}

export interface FetchResult {
  readonly status: number;
  readonly statusText: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly bodyStreamId: number | null;
}

export type ExposeHttpParams = { readonly domain: string } & ({ readonly port: number } | { readonly pid: number });

export interface VscodeParams extends Path {
  readonly extensions: readonly string[];
  readonly env?: Maybe<Readonly<Record<string, string>>>;
  readonly preview?: Maybe<string>;
  readonly disableStopButton?: Maybe<boolean>;
  readonly editorSettings?: Maybe<Readonly<Record<string, unknown>>>;
}

interface Rpc<P, R> {
  readonly params: P;
  readonly result: R;
}

type FileTimes = { readonly atime: IsoDate | number; readonly mtime: IsoDate | number };

/** The table: name of the method to its parameters and the value of `ok`. */
export interface RpcMethods {
  abort: Rpc<{ readonly abortId: number }, null>;

  readFile: Rpc<Path & Abortable, Base64>;
  readTextFile: Rpc<Path & Abortable, string>;
  writeFile: Rpc<WriteFileParams, null>;
  writeTextFile: Rpc<WriteFileParams, null>;
  readDir: Rpc<Path & EscapeNames, readonly DirectoryEntry[]>;
  remove: Rpc<Path & { readonly options?: Maybe<{ readonly recursive?: Maybe<boolean> }> }, null>;
  mkdir: Rpc<
    Path & { readonly options?: Maybe<{ readonly recursive?: Maybe<boolean>; readonly mode?: Maybe<number> }> },
    null
  >;
  rename: Rpc<{ readonly oldPath: string; readonly newPath: string }, null>;
  copyFile: Rpc<{ readonly fromPath: string; readonly toPath: string }, null>;
  stat: Rpc<Path, FileInfo>;
  lstat: Rpc<Path, FileInfo>;
  chmod: Rpc<Path & { readonly mode: number }, null>;
  chown: Rpc<Path & { readonly uid: number | null; readonly gid: number | null }, null>;
  link: Rpc<Path & { readonly target: string }, null>;
  symlink: Rpc<
    Path & {
      readonly target: string;
      readonly options?: Maybe<{ readonly type?: Maybe<"file" | "dir" | "junction"> }>;
    },
    null
  >;
  readLink: Rpc<Path, string>;
  realPath: Rpc<Path, string>;
  truncate: Rpc<{ readonly name: string; readonly length?: Maybe<number> }, null>;
  utime: Rpc<Path & FileTimes, null>;
  umask: Rpc<{ readonly mask?: Maybe<number> }, number>;
  makeTempDir: Rpc<{ readonly options?: Maybe<MakeTempOptions> }, string>;
  makeTempFile: Rpc<{ readonly options?: Maybe<MakeTempOptions> }, string>;
  walk: Rpc<WalkParams & EscapeNames, { readonly streamId: number }>;
  expandGlob: Rpc<ExpandGlobParams & EscapeNames, { readonly streamId: number }>;

  open: Rpc<Path & { readonly options?: Maybe<OpenOptions> }, Handle>;
  create: Rpc<Path, Handle>;
  /**
   * `data` is null at the end of the file. With `sparse`, which is ours, `zeros` says how many zeros, which may be a hole's, come before `data`; that
   * may be empty then.
   */
  fileRead: Rpc<
    Handle & { readonly length: number; readonly sparse?: boolean },
    { readonly data: Base64 | null; readonly zeros?: number }
  >;
  /** With `sparse`, which is ours, blocks of zeros are passed over, and are holes where there was nothing: the caller sets the length at last. */
  fileWrite: Rpc<Handle & { readonly data: Base64; readonly sparse?: boolean }, { readonly bytesWritten: number }>;
  fileSeek: Rpc<
    Handle & { readonly offset: number | string; readonly whence: 0 | 1 | 2 },
    { readonly position: number }
  >;
  fileStat: Rpc<Handle, FileInfo>;
  fileSync: Rpc<Handle, null>;
  fileSyncData: Rpc<Handle, null>;
  fileTruncate: Rpc<Handle & { readonly len?: Maybe<number> }, null>;
  fileLock: Rpc<Handle & { readonly exclusive?: Maybe<boolean> }, null>;
  fileUnlock: Rpc<Handle, null>;
  fileUtime: Rpc<Handle & FileTimes, null>;
  fileClose: Rpc<Handle, null>;

  spawn: Rpc<SpawnParams, SpawnResult>;
  processWait: Rpc<ProcessPidParams, ProcessStatus>;
  processKill: Rpc<ProcessPidParams & { readonly signal?: Maybe<string> }, null>;

  spawnDeno: Rpc<SpawnDenoParams, SpawnResult & { readonly watcherId: string | null }>;
  spawnDenoRepl: Rpc<ProcessParams & { readonly scriptArgs?: Maybe<readonly string[]> }, SpawnResult>;
  denoHttpWait: Rpc<PidParams, boolean>;
  denoReplEval: Rpc<PidParams & { readonly code: string }, unknown>;
  denoReplCall: Rpc<PidParams & { readonly fn: string; readonly args: readonly unknown[] }, unknown>;
  denoReplClose: Rpc<PidParams, null>;

  fetch: Rpc<FetchParams, FetchResult>;

  exposeHttp: Rpc<ExposeHttpParams, null>;
  vscode: Rpc<
    VscodeParams,
    { readonly pid: number; readonly port: number; readonly stdoutStreamId: number; readonly stderrStreamId: number }
  >;

  envGet: Rpc<{ readonly key: string }, string | null>;
  envSet: Rpc<{ readonly key: string; readonly value: string }, null>;
  envToObject: Rpc<Readonly<Record<string, never>>, Readonly<Record<string, string>>>;
  envDelete: Rpc<{ readonly key: string }, null>;
}

export type RpcMethodName = keyof RpcMethods;
export type RpcParams<M extends RpcMethodName> = RpcMethods[M]["params"];
export type RpcResult<M extends RpcMethodName> = RpcMethods[M]["result"];
