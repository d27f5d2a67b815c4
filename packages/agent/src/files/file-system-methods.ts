import { type Call, type Method, type MethodTable, method } from "../calls/method.ts";
import {
  arrayOf,
  boolean,
  bytes,
  count,
  defaulted,
  nullable,
  number,
  object,
  optional,
  requireDecodable,
  string,
  textBytes,
  type Validator,
  validate,
} from "../calls/params.ts";
import type { LargeString } from "../wire/large-string.ts";
import { expandGlob } from "./expand-glob.ts";
import { readContent, writeContent } from "./file-content.ts";
import { toFileInfo } from "./file-info.ts";
import { time } from "./file-params.ts";
import {
  link,
  lstat,
  mkdir,
  reach,
  reachOrCreate,
  readDir,
  readLink,
  realPath,
  remove,
  rename,
  symlink,
} from "./names/reach.ts";
import { requireOpenable, requireOpenableIfThere } from "./openable.ts";
import { resolvePath } from "./paths.ts";
import { removeTree } from "./remove-tree.ts";
import { walk } from "./walk.ts";

/** An object of options that may be absent; its members have defaults of their own. */
function options<const S extends Readonly<Record<string, Validator<unknown>>>>(shape: S) {
  const inner = object(shape);
  return defaulted(inner, validate(inner, {}));
}

const path = { path: string };
const twoPaths = { oldPath: string, newPath: string };
const temporary = { options: options({ dir: optional(string), prefix: optional(string), suffix: optional(string) }) };

/** A method on one path. */
function pathMethod<R>(run: (path: string, call: Call) => R): Method<R> {
  return method(path, ({ path }, call) => run(resolvePath(call.sandbox, path), call));
}

/** A method on what one path leads to. */
function objectMethod<R>(run: (path: string, call: Call) => Promise<R>): Method<Promise<R>> {
  return pathMethod((path, call) => reach(path, (reached) => run(reached, call)));
}

/** Ours: names that are not UTF-8 are told so that they can be used in other calls. */
const names = { escapeNames: defaulted(boolean, false) };

const writeOptions = options({
  append: defaulted(boolean, false),
  create: defaulted(boolean, true),
  createNew: defaulted(boolean, false),
  mode: optional(count),
});

/** A method that writes a file from `content`, read by `content`, or from a stream of the client. */
function writeMethod(
  content: Validator<Uint8Array | LargeString>,
  piecesOf: (content: LargeString) => AsyncIterable<Uint8Array>,
): Method<Promise<void>> {
  const shape = { ...path, options: writeOptions, contentStreamId: optional(count), content: optional(content) };
  const contentOnly = object({ content });
  return method(shape, async (params, call) => {
    const { options, contentStreamId } = params;
    const path = resolvePath(call.sandbox, params.path);
    if (contentStreamId !== undefined) {
      return await writeContent(path, call.takeStream(contentStreamId), options, call.signal);
    }
    const given = params.content ?? validate(contentOnly, {}).content;
    if (given instanceof Uint8Array) return await writeContent(path, given, options, call.signal);
    // Found before the file is touched, as with content that is not large.
    await requireDecodable(piecesOf(given), "content");
    await writeContent(path, piecesOf(given), options, call.signal);
  });
}

const regExp: Validator<RegExp> = (value, path, issues) => {
  const { source, flags } = object({ source: string, flags: defaulted(string, "") })(value, path, issues);
  return issues.length === 0 ? new RegExp(source, flags) : /(?!)/;
};

const walkParams = {
  ...path,
  ...names,
  maxDepth: defaulted(number, Number.POSITIVE_INFINITY),
  includeFiles: defaulted(boolean, true),
  includeDirs: defaulted(boolean, true),
  includeSymlinks: defaulted(boolean, true),
  followSymlinks: defaulted(boolean, false),
  canonicalize: defaulted(boolean, true),
  exts: optional(arrayOf(string)),
  match: optional(arrayOf(regExp)),
  skip: optional(arrayOf(regExp)),
};

const globParams = {
  glob: string,
  ...names,
  extended: defaulted(boolean, true),
  globstar: defaulted(boolean, true),
  caseInsensitive: defaulted(boolean, false),
  root: optional(string),
  exclude: defaulted(arrayOf(string), []),
  includeDirs: defaulted(boolean, true),
  followSymlinks: defaulted(boolean, false),
  canonicalize: defaulted(boolean, true),
};

/** JavaScript sends the options of `walk` and `expandGlob` beside the path, Python nests them under `options` (protocol.md section 7). */
function withNestedOptions<R>(inner: Method<R>): Method<R> {
  return (params, call) =>
    inner(isObject(params) && isObject(params.options) ? { ...params, ...params.options } : params, call);
}

/** Sends each value of a sequence as one chunk of JSON. */
function openJsonStream(call: Call, values: (signal: AbortSignal) => AsyncIterable<unknown>): { streamId: number } {
  const encoder = new TextEncoder();
  async function* chunks(signal: AbortSignal) {
    for await (const value of values(signal)) yield encoder.encode(JSON.stringify(value));
  }
  return { streamId: call.openStream(chunks) };
}

export const fileSystemMethods = {
  readFile: objectMethod((path, call) => call.inTurn(() => readContent(path, "base64", call.signal))),
  readTextFile: objectMethod((path, call) => call.inTurn(() => readContent(path, "utf-8", call.signal))),
  writeFile: writeMethod(bytes, (content) => content.bytes()),
  writeTextFile: writeMethod(textBytes, (content) => content.utf8()),
  readDir: method({ ...path, ...names }, ({ path, escapeNames }, call) =>
    call.inTurn(() => Array.fromAsync(readDir(resolvePath(call.sandbox, path), escapeNames))),
  ),
  remove: method(
    { ...path, options: options({ recursive: defaulted(boolean, false) }) },
    ({ path, options: { recursive } }, { sandbox }) =>
      recursive ? removeTree(resolvePath(sandbox, path)) : remove(resolvePath(sandbox, path)),
  ),
  mkdir: method(
    { ...path, options: options({ recursive: defaulted(boolean, false), mode: defaulted(count, 0o777) }) },
    ({ path, options }, { sandbox }) => mkdir(resolvePath(sandbox, path), options),
  ),
  rename: method(twoPaths, ({ oldPath, newPath }, { sandbox }) =>
    rename(resolvePath(sandbox, oldPath), resolvePath(sandbox, newPath)),
  ),
  copyFile: method({ fromPath: string, toPath: string }, async ({ fromPath, toPath }, { sandbox }) => {
    await reach(resolvePath(sandbox, fromPath), async (from) => {
      await requireOpenable(from);
      await reachOrCreate(resolvePath(sandbox, toPath), { create: true }, async (to) => {
        await requireOpenableIfThere(to);
        await Deno.copyFile(from, to);
      });
    });
  }),
  stat: objectMethod(async (path) => toFileInfo(await Deno.stat(path))),
  lstat: pathMethod(async (path) => toFileInfo(await lstat(path))),
  chmod: method({ ...path, mode: count }, ({ path, mode }, { sandbox }) =>
    reach(resolvePath(sandbox, path), (reached) => Deno.chmod(reached, mode)),
  ),
  chown: method({ ...path, uid: nullable(count), gid: nullable(count) }, ({ path, uid, gid }, { sandbox }) =>
    reach(resolvePath(sandbox, path), (reached) => Deno.chown(reached, uid, gid)),
  ),
  link: method({ target: string, ...path }, ({ target, path }, { sandbox }) =>
    link(resolvePath(sandbox, target), resolvePath(sandbox, path)),
  ),
  // The target is the link's text and is not resolved; `options.type` has a meaning on Windows only.
  symlink: method({ target: string, ...path }, ({ target, path }, { sandbox }) =>
    symlink(target, resolvePath(sandbox, path)),
  ),
  readLink: pathMethod(readLink),
  realPath: pathMethod(realPath),
  truncate: method({ name: string, length: defaulted(count, 0) }, async ({ name, length }, { sandbox }) => {
    await reach(resolvePath(sandbox, name), async (path) => {
      await requireOpenableIfThere(path);
      // `Deno.truncate` does not follow the way through a descriptor.
      using file = await Deno.open(path, { write: true });
      await file.truncate(length);
    });
  }),
  utime: method({ ...path, atime: time, mtime: time }, ({ path, atime, mtime }, { sandbox }) =>
    reach(resolvePath(sandbox, path), (reached) => Deno.utime(reached, atime, mtime)),
  ),
  // The umask of the agent is that of all processes it starts afterwards.
  umask: method({ mask: optional(count) }, ({ mask }) => Deno.umask(mask)),
  makeTempDir: method(temporary, ({ options }, { sandbox }) => Deno.makeTempDir(temporaryOptions(options, sandbox))),
  makeTempFile: method(temporary, ({ options }, { sandbox }) => Deno.makeTempFile(temporaryOptions(options, sandbox))),
  walk: withNestedOptions(
    method(walkParams, ({ path, ...options }, call) =>
      openJsonStream(call, (signal) => walk(path, { ...options, signal }, (path) => resolvePath(call.sandbox, path))),
    ),
  ),
  expandGlob: withNestedOptions(
    method(globParams, ({ glob, ...options }, call) =>
      openJsonStream(call, (signal) =>
        expandGlob(glob, { ...options, signal, directory: call.sandbox.settings.defaultDirectory }),
      ),
    ),
  ),
} satisfies MethodTable;

function temporaryOptions(
  options: {
    readonly dir: string | undefined;
    readonly prefix: string | undefined;
    readonly suffix: string | undefined;
  },
  sandbox: Call["sandbox"],
): Deno.MakeTempOptions {
  const { dir, prefix, suffix } = options;
  return {
    dir: resolvePath(sandbox, dir ?? "/tmp"),
    ...(prefix === undefined ? {} : { prefix }),
    ...(suffix === undefined ? {} : { suffix }),
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
