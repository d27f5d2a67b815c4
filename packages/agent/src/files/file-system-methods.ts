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
  readFile: pathMethod((path, call) => call.inTurn(() => readContent(path, "base64", call.signal))),
  readTextFile: pathMethod((path, call) => call.inTurn(() => readContent(path, "utf-8", call.signal))),
  writeFile: writeMethod(bytes, (content) => content.bytes()),
  writeTextFile: writeMethod(textBytes, (content) => content.utf8()),
  readDir: pathMethod((path, call) => call.inTurn(() => Array.fromAsync(Deno.readDir(path)))),
  remove: method(
    { ...path, options: options({ recursive: defaulted(boolean, false) }) },
    ({ path, options: { recursive } }, { sandbox }) =>
      recursive ? removeTree(resolvePath(sandbox, path)) : Deno.remove(resolvePath(sandbox, path)),
  ),
  mkdir: method(
    { ...path, options: options({ recursive: defaulted(boolean, false), mode: defaulted(count, 0o777) }) },
    ({ path, options }, { sandbox }) => Deno.mkdir(resolvePath(sandbox, path), options),
  ),
  rename: method(twoPaths, ({ oldPath, newPath }, { sandbox }) =>
    Deno.rename(resolvePath(sandbox, oldPath), resolvePath(sandbox, newPath)),
  ),
  copyFile: method({ fromPath: string, toPath: string }, async ({ fromPath, toPath }, { sandbox }) => {
    const [from, to] = [resolvePath(sandbox, fromPath), resolvePath(sandbox, toPath)];
    await requireOpenable(from);
    await requireOpenableIfThere(to);
    await Deno.copyFile(from, to);
  }),
  stat: pathMethod(async (path) => toFileInfo(await Deno.stat(path))),
  lstat: pathMethod(async (path) => toFileInfo(await Deno.lstat(path))),
  chmod: method({ ...path, mode: count }, ({ path, mode }, { sandbox }) =>
    Deno.chmod(resolvePath(sandbox, path), mode),
  ),
  chown: method({ ...path, uid: nullable(count), gid: nullable(count) }, ({ path, uid, gid }, { sandbox }) =>
    Deno.chown(resolvePath(sandbox, path), uid, gid),
  ),
  link: method({ target: string, ...path }, ({ target, path }, { sandbox }) =>
    Deno.link(resolvePath(sandbox, target), resolvePath(sandbox, path)),
  ),
  // The target is the link's text and is not resolved; `options.type` has a meaning on Windows only.
  symlink: method({ target: string, ...path }, ({ target, path }, { sandbox }) =>
    Deno.symlink(target, resolvePath(sandbox, path)),
  ),
  readLink: pathMethod((path) => Deno.readLink(path)),
  realPath: pathMethod((path) => Deno.realPath(path)),
  truncate: method({ name: string, length: defaulted(count, 0) }, async ({ name, length }, { sandbox }) => {
    const path = resolvePath(sandbox, name);
    await requireOpenableIfThere(path);
    await Deno.truncate(path, length);
  }),
  utime: method({ ...path, atime: time, mtime: time }, ({ path, atime, mtime }, { sandbox }) =>
    Deno.utime(resolvePath(sandbox, path), atime, mtime),
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
