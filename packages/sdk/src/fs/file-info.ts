import type { FileInfo as WireFileInfo } from "@caisson/protocol";

/** What is known about a file. */
export interface FileInfo {
  /** A regular file. Excludes the other two. */
  isFile: boolean;
  /** A directory. Excludes the other two. */
  isDirectory: boolean;
  /** A symbolic link, as only `lstat` shows it. Excludes the other two. */
  isSymlink: boolean;
  /** Size in bytes. */
  size: number;
  /** When the content changed last. */
  mtime: Date;
  /** When the content was read last. */
  atime: Date;
  /** When the file was made; the time of the last change of its metadata where the file system does not know. */
  birthtime: Date;
  /** When the metadata changed last. */
  ctime: Date;
  /** The device that has the file. */
  dev: number;
  /** The number of the inode. */
  ino: number;
  /** Type and permissions, the whole `st_mode`. */
  mode: number;
  /** The number of hard links. */
  nlink: number;
  /** The owner's user id. */
  uid: number;
  /** The owner's group id. */
  gid: number;
  /** The device that the file stands for. */
  rdev: number;
  /** The best size of a block to read or write, in bytes. */
  blksize: number;
  /** Allocated blocks of 512 bytes. */
  blocks: number;
  /** A block device. */
  isBlockDevice: boolean;
  /** A character device. */
  isCharDevice: boolean;
  /** A named pipe. */
  isFifo: boolean;
  /** A socket. */
  isSocket: boolean;
}

/** A moment: seconds since 1970, or a date. */
export type FileTime = number | Date;

/** Reads the form of the wire, where moments are text. */
export function toFileInfo(info: WireFileInfo): FileInfo {
  return {
    ...info,
    mtime: new Date(info.mtime),
    atime: new Date(info.atime),
    birthtime: new Date(info.birthtime),
    ctime: new Date(info.ctime),
  };
}

/** Writes a moment for the wire. Numbers are seconds, as documented; the official client takes them for milliseconds. */
export function toDateText(time: FileTime): string {
  return (time instanceof Date ? time : new Date(time * 1000)).toISOString();
}
