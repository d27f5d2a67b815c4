import { glob, lstat, mkdir, mkdtemp, opendir, realpath, rename, rm, stat } from "node:fs/promises";
import { join, posix, resolve } from "node:path";
import { errors, type Sandbox } from "@caisson/sdk";
import { hasGlob } from "./location.ts";

/** What stands at a path. */
export type Kind = "file" | "directory" | SpecialKind | "absent";

/** What has no content that could be copied. */
export type SpecialKind = "pipe" | "socket" | "device";

/** The file calls that a copy needs, the same for this machine and for a sandbox. Paths are absolute after `resolve`. */
export interface Side {
  /** Makes a path absolute. A trailing slash is lost. */
  resolve(path: string): Promise<string>;
  /** The absolute path with all links followed. */
  realPath(path: string): Promise<string>;
  /** Follows links. */
  kindOf(path: string): Promise<Kind>;
  /** What a glob stands for, sorted. A path that exists stands for itself, whatever characters it has. */
  expand(path: string): Promise<string[]>;
  makeDirectory(path: string): Promise<void>;
  /** An empty directory beside what is to be made, on the same file system. */
  makeTemporary(parent: string): Promise<string>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a directory with everything in it. */
  remove(path: string): Promise<void>;
  /** The file, or all files below the directory; `null` when that cannot be found out cheaply. */
  measure(path: string): Promise<Amount | null>;
}

export interface Amount {
  readonly files: number;
  readonly bytes: number;
}

const TEMPORARY_PREFIX = ".caisson-copy-";

/** This machine. */
export const localSide: Side = {
  resolve: async (path) => resolve(path),
  realPath: realpath,
  kindOf: (path) => kindFrom(stat(path)),
  async expand(path) {
    if (!hasGlob(path) || (await exists(lstat(path)))) return [path];
    return (await Array.fromAsync(glob(path))).sort();
  },
  async makeDirectory(path) {
    await mkdir(path, { recursive: true });
  },
  makeTemporary: (parent) => mkdtemp(join(parent, TEMPORARY_PREFIX)),
  rename,
  remove: (path) => rm(path, { recursive: true, force: true }),
  measure: measureLocal,
};

/** A sandbox. */
export function sandboxSide(sandbox: Sandbox): Side {
  const { fs } = sandbox;
  return {
    resolve: async (path) =>
      posix.isAbsolute(path) ? posix.resolve(path) : posix.resolve(await fs.realPath("."), path),
    realPath: (path) => fs.realPath(path),
    kindOf: (path) => kindFrom(fs.stat(path)),
    async expand(path) {
      if (!hasGlob(path) || (await exists(fs.lstat(path)))) return [path];
      return (await Array.fromAsync(fs.expandGlob(path))).map((entry) => entry.path);
    },
    makeDirectory: (path) => fs.mkdir(path, { recursive: true }),
    makeTemporary: (dir) => fs.makeTempDir({ dir, prefix: TEMPORARY_PREFIX }),
    rename: (from, to) => fs.rename(from, to),
    remove: (path) => fs.remove(path, { recursive: true }),
    measure: (path) => measureInSandbox(sandbox, path),
  };
}

async function measureLocal(path: string): Promise<Amount> {
  const info = await stat(path);
  if (!info.isDirectory()) return { files: 1, bytes: info.size };
  const total = { files: 0, bytes: 0 };
  for await (const entry of await opendir(path, { recursive: true })) {
    if (!entry.isFile()) continue;
    total.files += 1;
    total.bytes += (await lstat(join(entry.parentPath, entry.name))).size;
  }
  return total;
}

/** One call inside instead of one for each file. Roots without `find` have no total, and the progress display does without. */
async function measureInSandbox(sandbox: Sandbox, path: string): Promise<Amount | null> {
  const info = await sandbox.fs.stat(path);
  if (!info.isDirectory) return { files: 1, bytes: info.size };
  try {
    const args = [path, "-type", "f", "-printf", "%s\\n"];
    const find = await sandbox.spawn("find", { args, stdout: "piped", stderr: "null" });
    const { stdoutText } = await find.output();
    const sizes = (stdoutText ?? "").split("\n").filter(Boolean).map(Number);
    return { files: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
  } catch (error) {
    if (error instanceof errors.NotFound) return null;
    throw error;
  }
}

type Answer = boolean | (() => boolean) | null;

/** What both sides tell of a file, one by methods and one by values; each has a spelling of its own for pipes. */
interface Typed {
  isFile: Answer;
  isDirectory: Answer;
  isSocket: Answer;
  isFIFO?: Answer;
  isFifo?: Answer;
}

async function kindFrom(lookup: Promise<Typed>): Promise<Kind> {
  try {
    const info = await lookup;
    const holds = (property: keyof Typed): boolean => {
      const value = info[property];
      return (typeof value === "function" ? value.call(info) : value) ?? false;
    };
    if (holds("isDirectory")) return "directory";
    if (holds("isFile")) return "file";
    if (holds("isFIFO") || holds("isFifo")) return "pipe";
    return holds("isSocket") ? "socket" : "device";
  } catch (error) {
    if (isAbsence(error)) return "absent";
    throw error;
  }
}

async function exists(lookup: Promise<unknown>): Promise<boolean> {
  try {
    await lookup;
    return true;
  } catch (error) {
    if (isAbsence(error)) return false;
    throw error;
  }
}

function isAbsence(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}
