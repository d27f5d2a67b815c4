import { closeSync } from "node:fs";
import { callSync } from "../calls/ffi.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";

/** Paths in a tree that somebody else has filled: what is opened lies in it, on the same mount, and no link is followed on the way. */

const OPENAT2 = 437;
const HOW_BYTES = 24;
const O_CREAT_EXCL_WRITE = 0o100 | 0o200 | 0o1;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
/** RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS and RESOLVE_IN_ROOT of openat2(2). */
const RESOLVE = 0x01 | 0x02 | 0x04 | 0x10;

/** Opens what is at `path` below the directory, to be mounted on (O_PATH). */
export function openInsideSync(directory: number, path: string): number {
  return open(directory, path, O_PATH, 0);
}

/** The same, made when missing, with the directories on the way. The umask of the thread applies. */
export function ensureInsideSync(directory: number, path: string, kind: "directory" | "file"): number {
  const names = path.split("/").filter((name) => name !== "");
  let parent = openInsideSync(directory, ".");
  for (const [index, name] of names.entries()) {
    try {
      const isFile = kind === "file" && index === names.length - 1;
      const next = openOrMake(parent, name, isFile);
      closeSync(parent);
      parent = next;
    } catch (error) {
      closeSync(parent);
      throw error;
    }
  }
  return parent;
}

function openOrMake(parent: number, name: string, isFile: boolean): number {
  try {
    return openInsideSync(parent, name);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
  if (isFile) closeSync(open(parent, name, O_CREAT_EXCL_WRITE, 0o644));
  else callSync("mkdirat", [parent, name, 0o755], { name: "mkdir", detail: name });
  return openInsideSync(parent, name);
}

function open(directory: number, path: string, flags: number, mode: number): number {
  const how = Buffer.alloc(HOW_BYTES);
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(RESOLVE), 16);
  return callSync("openat2", [OPENAT2, directory, path, how, HOW_BYTES], { name: "openat2", detail: path });
}
