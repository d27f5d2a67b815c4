import type { FileInfo } from "@caisson/protocol/rpc-methods";

/**
 * File information in the wire form, where no member may be null (protocol.md 4.2). A file system that records no birth time, such as
 * proc, answers with the change time instead.
 */
export function toFileInfo(info: Deno.FileInfo): FileInfo {
  const changed = info.ctime ?? info.mtime;
  return {
    isFile: info.isFile,
    isDirectory: info.isDirectory,
    isSymlink: info.isSymlink,
    size: info.size,
    mtime: toIsoDate(info.mtime),
    atime: toIsoDate(info.atime),
    birthtime: toIsoDate(info.birthtime ?? changed),
    ctime: toIsoDate(changed),
    dev: info.dev,
    ino: info.ino ?? 0,
    mode: info.mode ?? 0,
    nlink: info.nlink ?? 0,
    uid: info.uid ?? 0,
    gid: info.gid ?? 0,
    rdev: info.rdev ?? 0,
    blksize: info.blksize ?? 0,
    blocks: info.blocks ?? 0,
    isBlockDevice: info.isBlockDevice ?? false,
    isCharDevice: info.isCharDevice ?? false,
    isFifo: info.isFifo ?? false,
    isSocket: info.isSocket ?? false,
  };
}

/** A time that JavaScript cannot express counts as the epoch. */
function toIsoDate(date: Date | null): string {
  return (date === null || Number.isNaN(date.getTime()) ? new Date(0) : date).toISOString();
}
