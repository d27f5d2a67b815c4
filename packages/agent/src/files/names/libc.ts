import { errnoError, errnoName } from "../../calls/errors.ts";
import { fromBytes, toBytes } from "./raw-name.ts";

export const OPEN = {
  writing: 0o1,
  create: 0o100,
  exclusive: 0o200,
  nonBlocking: 0o4000,
  directory: 0o200000,
  noFollow: 0o400000,
  closeOnExec: 0o2000000,
  /** For its path only, so that it neither waits nor needs a permission. */
  path: 0o10000000,
} as const;

const DIRECTORY_BUFFER_BYTES = 32 * 1024;
const PATH_BYTES_MAX = 4096;
const FILE_TYPES = { directory: 4, file: 8, link: 10 } as const;

const SYMBOLS = {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  rmdir: { parameters: ["buffer"], result: "i32" },
  unlink: { parameters: ["buffer"], result: "i32" },
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
  link: { parameters: ["buffer", "buffer"], result: "i32" },
  symlink: { parameters: ["buffer", "buffer"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

let loaded: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | null = null;

/**
 * The C library that Deno itself runs on, whatever the root has: the loader knows it by this name already. Loaded when a name that is not UTF-8 is met
 * for the first time (3 ms, measured), because Deno's own calls cannot carry one.
 */
function libc(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  loaded ??= Deno.dlopen("libc.so.6", SYMBOLS).symbols;
  return loaded;
}

function checked(result: number | bigint, name: string, path: string): number {
  if (result >= 0) return Number(result);
  const location = libc().__errno_location();
  const errno = location === null ? 0 : new Deno.UnsafePointerView(location).getInt32();
  throw errnoError(errnoName(errno), `${name} ${JSON.stringify(path)}`);
}

/** Opens a path of any bytes; the descriptor is the caller's to close. Never waits with `path` or `nonBlocking`. */
export function openDescriptor(path: string, flags: number, mode = 0o666): number {
  return checked(libc().open(toBytes(path), flags | OPEN.closeOnExec, mode), "open", path);
}

export function closeDescriptor(descriptor: number): void {
  libc().close(descriptor);
}

export const rawCalls = {
  mkdir: (path: string, mode: number) => void checked(libc().mkdir(toBytes(path), mode), "mkdir", path),
  rmdir: (path: string) => void checked(libc().rmdir(toBytes(path)), "rmdir", path),
  unlink: (path: string) => void checked(libc().unlink(toBytes(path)), "unlink", path),
  rename: (from: string, to: string) => void checked(libc().rename(toBytes(from), toBytes(to)), "rename", from),
  link: (target: string, path: string) => void checked(libc().link(toBytes(target), toBytes(path)), "link", path),
  symlink: (text: string, path: string) => void checked(libc().symlink(toBytes(text), toBytes(path)), "symlink", path),
  readLink(path: string): string {
    const buffer = new Uint8Array(PATH_BYTES_MAX);
    const length = checked(libc().readlink(toBytes(path), buffer, BigInt(buffer.length)), "readlink", path);
    return fromBytes(buffer.subarray(0, length));
  },
};

/** The entries of a directory, their names whole. */
export function readEntries(path: string): Deno.DirEntry[] {
  const descriptor = openDescriptor(path, OPEN.directory);
  try {
    const buffer = new Uint8Array(DIRECTORY_BUFFER_BYTES);
    const entries: Deno.DirEntry[] = [];
    for (;;) {
      const length = checked(libc().getdents64(descriptor, buffer, BigInt(buffer.length)), "readdir", path);
      if (length === 0) return entries;
      entries.push(...parseEntries(buffer.subarray(0, length)));
    }
  } finally {
    closeDescriptor(descriptor);
  }
}

/** Records of getdents(2): two numbers of 8 bytes, the record's length in 2, a type in 1, and the name, which a zero ends. */
function* parseEntries(records: Uint8Array): Iterable<Deno.DirEntry> {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  for (let start = 0; start < records.length; start += view.getUint16(start + 16, true)) {
    const bytes = records.subarray(start + 19, start + view.getUint16(start + 16, true));
    const name = fromBytes(bytes.subarray(0, bytes.indexOf(0)));
    if (name === "." || name === "..") continue;
    const type = records[start + 18];
    yield {
      name,
      isFile: type === FILE_TYPES.file,
      isDirectory: type === FILE_TYPES.directory,
      isSymlink: type === FILE_TYPES.link,
    };
  }
}
