import { type Call, type MethodTable, method } from "../calls/method.ts";
import {
  boolean,
  bytes,
  count,
  defaulted,
  object,
  oneOf,
  optional,
  requireDecodable,
  type ShapeOf,
  string,
} from "../calls/params.ts";
import { LargeString } from "../wire/large-string.ts";
import { writeAll } from "./file-content.ts";
import { addFile, closeFile, getFile } from "./file-handles.ts";
import { toFileInfo } from "./file-info.ts";
import { acquireLock } from "./file-lock.ts";
import { byteOffset, time } from "./file-params.ts";
import { readSparsely, writeSparsely } from "./holes.ts";
import { reachOrCreate } from "./names/reach.ts";
import { requireOpenableIfThere } from "./openable.ts";
import { resolvePath } from "./paths.ts";

/** The largest answer to one read, small enough for Python's limit of 1 MiB for a message. Who wants more reads again. */
const READ_LIMIT_BYTES = 512 * 1024;

const openShape = {
  read: optional(boolean),
  write: optional(boolean),
  append: optional(boolean),
  truncate: optional(boolean),
  create: optional(boolean),
  createNew: optional(boolean),
  mode: optional(count),
};

const handle = { fileHandleId: count };
const flag = defaulted(boolean, false);

export const fileHandleMethods = {
  open: method({ path: string, options: optional(object(openShape)) }, ({ path, options }, call) =>
    openFile(path, toOpenOptions(options), call),
  ),
  create: method({ path: string }, ({ path }, call) =>
    openFile(path, { read: true, write: true, create: true, truncate: true }, call),
  ),
  // `sparse`, for files with holes, is ours.
  fileRead: method({ ...handle, length: count, sparse: flag }, ({ fileHandleId, length, sparse }, call) =>
    call.inTurn(async () => {
      const buffer = new Uint8Array(Math.min(length, READ_LIMIT_BYTES));
      const file = getFile(call.connection, fileHandleId);
      if (sparse && length > 0) {
        const { zeros, data } = await readSparsely(file, buffer, call.signal);
        return { zeros, data: data === null ? null : data.toBase64() };
      }
      const size = await file.read(buffer);
      return { data: size === null ? null : buffer.subarray(0, size).toBase64() };
    }),
  ),
  fileWrite: method(
    { ...handle, data: bytes, sparse: flag },
    async ({ fileHandleId, data, sparse }, { connection }) => {
      const file = getFile(connection, fileHandleId);
      const write = (bytes: Uint8Array) => (sparse ? writeSparsely(file, bytes) : writeAll(file, bytes));
      if (data instanceof LargeString) {
        await requireDecodable(data.bytes(), "data");
        let bytesWritten = 0;
        for await (const piece of data.bytes()) {
          await write(piece);
          bytesWritten += piece.length;
        }
        return { bytesWritten };
      }
      await write(data);
      return { bytesWritten: data.length };
    },
  ),
  fileSeek: method(
    { ...handle, offset: byteOffset, whence: oneOf(0, 1, 2) },
    async ({ fileHandleId, offset, whence }, { connection }) => ({
      position: await getFile(connection, fileHandleId).seek(offset, whence),
    }),
  ),
  fileStat: method(handle, async ({ fileHandleId }, { connection }) =>
    toFileInfo(await getFile(connection, fileHandleId).stat()),
  ),
  fileSync: method(handle, ({ fileHandleId }, { connection }) => getFile(connection, fileHandleId).sync()),
  fileSyncData: method(handle, ({ fileHandleId }, { connection }) => getFile(connection, fileHandleId).syncData()),
  // Python sends the length as `size` (protocol.md 4.3).
  fileTruncate: method(
    { ...handle, len: optional(count), size: optional(count) },
    ({ fileHandleId, len, size }, { connection }) => getFile(connection, fileHandleId).truncate(len ?? size ?? 0),
  ),
  fileLock: method(
    { ...handle, exclusive: defaulted(boolean, false) },
    ({ fileHandleId, exclusive }, { connection, signal }) =>
      acquireLock(getFile(connection, fileHandleId), exclusive, signal),
  ),
  fileUnlock: method(handle, ({ fileHandleId }, { connection }) => getFile(connection, fileHandleId).unlock()),
  fileUtime: method({ ...handle, atime: time, mtime: time }, ({ fileHandleId, atime, mtime }, { connection }) =>
    getFile(connection, fileHandleId).utime(atime, mtime),
  ),
  fileClose: method(handle, ({ fileHandleId }, { connection }) => closeFile(connection, fileHandleId)),
} satisfies MethodTable;

async function openFile(path: string, options: Deno.OpenOptions, call: Call): Promise<{ fileHandleId: number }> {
  const { create, createNew, mode, ...access } = options;
  const creation = { ...(create !== undefined && { create }), ...(createNew !== undefined && { createNew }) };
  const modeOption = mode === undefined ? {} : { mode };
  const file = await reachOrCreate(
    resolvePath(call.sandbox, path),
    { ...creation, ...modeOption },
    async (reached, left) => {
      if (createNew !== true) await requireOpenableIfThere(reached);
      return await Deno.open(reached, { ...access, ...left });
    },
  );
  return { fileHandleId: addFile(call.connection, file) };
}

/** Options that say nothing about the access mean reading (protocol.md 4.3). */
function toOpenOptions(options: ShapeOf<typeof openShape> | undefined): Deno.OpenOptions {
  const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
  const { read, write, append } = given;
  return read === undefined && write === undefined && append === undefined ? { ...given, read: true } : given;
}
