import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, symlink, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";

const WRITE = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | (constants.O_NOFOLLOW ?? 0);

/**
 * A local directory that content of a sandbox is written into. The sandbox is not trusted, and may have put a link there by an earlier
 * download: a link that is in the way is removed and never followed, so that nothing is written outside the directory.
 */
export class LocalTree {
  readonly root: string;
  readonly #directories = new Map<string, Promise<void>>();

  /** The directory `name` in `parent`; links on the way to `parent` are the caller's and are followed. */
  constructor(parent: string, name: string) {
    this.root = resolve(parent, name);
  }

  /** Makes a directory and those above it, up to the root. */
  makeDirectory(path: string): Promise<void> {
    const existing = this.#directories.get(path);
    if (existing !== undefined) return existing;
    const made = this.#make(path);
    this.#directories.set(path, made);
    return made;
  }

  /** Opens a file for writing, made or emptied, in a directory that is made if it is missing. */
  async openFile(path: string, mode: number): Promise<FileHandle> {
    await this.makeDirectory(dirname(path));
    try {
      return await open(path, WRITE, mode);
    } catch (error) {
      if (!hasCode(error, "ELOOP")) throw error;
      await unlink(path);
      return await open(path, WRITE, mode);
    }
  }

  /** Makes a link, in the place of a file or link that is there. */
  async link(path: string, text: string): Promise<void> {
    await this.makeDirectory(dirname(path));
    try {
      await symlink(text, path);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
      await unlink(path);
      await symlink(text, path);
    }
  }

  async #make(path: string): Promise<void> {
    if (path === this.root) await mkdir(dirname(path), { recursive: true });
    else await this.makeDirectory(dirname(path));
    try {
      await mkdir(path);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
      const info = await lstat(path);
      if (info.isDirectory()) return;
      if (!info.isSymbolicLink()) throw error;
      await unlink(path);
      await mkdir(path);
    }
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
