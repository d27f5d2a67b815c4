import { statfsSync } from "node:fs";
import { chmod, type FileHandle, open, rename, statfs, unlink } from "node:fs/promises";
import type { HasDescriptor } from "./descriptor.ts";
import { call, callSync, passFaultPoint, passFaultPointSync } from "./ffi.ts";
import { ioctl, ioctlSync } from "./ioctl.ts";
import { KernelError } from "./kernel-error.ts";

/**
 * File operations whose order decides what survives a crash, each behind a fault point. Node's own functions do the work where it has them.
 */

export async function openFile(path: string, flags: number | string, mode?: number): Promise<FileHandle> {
  return passed("open", path, () => open(path, flags, mode));
}

export async function renameFile(source: string, target: string): Promise<void> {
  await passed("rename", `${source} to ${target}`, () => rename(source, target));
}

/** Removes a file. Not there is an error, unlike in `rm`. */
export async function unlinkFile(path: string): Promise<void> {
  await passed("unlink", path, () => unlink(path));
}

export async function changeMode(path: string, mode: number): Promise<void> {
  await passed("chmod", path, () => chmod(path, mode));
}

export async function truncateFile(file: FileHandle, sizeBytes: number, detail: string): Promise<void> {
  await passed("ftruncate", detail, () => file.truncate(sizeBytes));
}

/** Puts contents and metadata of an open file, or of an open block device, on stable storage. */
export async function syncFile(file: FileHandle, detail: string): Promise<void> {
  await passed("fsync", detail, () => file.sync());
}

/** Puts the entries of a directory on stable storage: what was created, renamed or removed in it. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await openFile(path, "r");
  await syncFile(directory, path);
}

/** Writes all dirty data of the file system that `file` lies on, and waits for it. */
export async function syncFileSystem(file: HasDescriptor, detail: string): Promise<void> {
  await call("syncfs", [file.fd], { name: "syncfs", detail });
}

/** The same for a thread that may block. */
export function syncFileSystemSync(file: HasDescriptor, detail: string): void {
  passFaultPointSync({ name: "syncfs", detail });
  callSync("syncfs", [file.fd], { name: "syncfs", detail });
}

/** Makes `target` a copy of `source` that shares its blocks until one of the two is written to. */
export async function cloneFile(source: HasDescriptor, target: HasDescriptor, detail: string): Promise<void> {
  await ioctl(target, "FICLONE", source.fd, detail);
}

const CLONE_RANGE_BYTES = 32;

/**
 * Makes one range of `target` share the blocks of the same range of `source`; holes become holes. Offset and length are multiples of 4096, or the
 * range ends with both files. Both files are locked meanwhile, for 20 µs and more for each extent. For a thread that may block.
 */
export function cloneRangeSync(
  source: HasDescriptor,
  target: HasDescriptor,
  { offset, length }: { readonly offset: number; readonly length: number },
  detail: string,
): void {
  passFaultPointSync({ name: "ioctl FICLONERANGE", detail });
  const request = Buffer.alloc(CLONE_RANGE_BYTES);
  request.writeBigInt64LE(BigInt(source.fd), 0);
  for (const [index, value] of [offset, length, offset].entries())
    request.writeBigUInt64LE(BigInt(value), 8 * (index + 1));
  ioctlSync(target, "FICLONERANGE", request, `${detail} at ${offset}, ${length} bytes`);
}

/** Reserves blocks for a range of the file, so that writing there cannot fail for want of space, and extends it if need be. */
export async function allocateRange(
  file: HasDescriptor,
  offset: number,
  length: number,
  detail: string,
): Promise<void> {
  await call("fallocate", [file.fd, 0, offset, length], { name: "fallocate", detail });
}

export interface FileSystemSpace {
  /** The magic number of the file system type, see statfs(2). */
  readonly type: number;
  readonly totalBytes: number;
  /** What an ordinary writer may still use. */
  readonly availableBytes: number;
}

export async function readSpace(path: string): Promise<FileSystemSpace> {
  const { type, bsize, blocks, bavail } = await passed("statfs", path, () => statfs(path));
  return { type, totalBytes: bsize * blocks, availableBytes: bsize * bavail };
}

/**
 * Blocks of the mounted file system at this instant, those that are withheld from ordinary writers counted as free. A look that passes no fault
 * point; the kernel answers from memory.
 */
export function readFileSystemBlocksNow(path: string): {
  readonly totalBlocks: number;
  readonly freeBlocks: number;
  readonly blockBytes: number;
} {
  const { bsize, blocks, bfree } = statfsSync(path);
  return { totalBlocks: blocks, freeBlocks: bfree, blockBytes: bsize };
}

/** Inodes of the mounted file system at this instant. A look that passes no fault point, as above. */
export function readFileSystemInodesNow(path: string): { readonly total: number; readonly free: number } {
  const { files, ffree } = statfsSync(path);
  return { total: files, free: ffree };
}

/** What may still be written to the file system at this instant, by all but root. A look that passes no fault point, as above. */
export function readAvailableBytesNow(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

/** Passes the fault point of an operation of Node and names the thing in its error. */
async function passed<T>(name: string, detail: string, run: () => Promise<T>): Promise<T> {
  await passFaultPoint({ name, detail });
  try {
    return await run();
  } catch (error) {
    if (error instanceof Error && "code" in error && typeof error.code === "string") {
      throw new KernelError(name, error.code, detail, { cause: error });
    }
    throw error;
  }
}
