import type { FileHandle } from "node:fs/promises";
import { Descriptor } from "./descriptor.ts";
import { addressOf } from "./ffi.ts";
import { ioctl } from "./ioctl.ts";

const REQUEST_BYTES = 56;
const HANDLE_BYTES = 256;

/**
 * Opens a file of an XFS file system once more, so that writing through the new descriptor leaves its timestamps alone. Without that, a write
 * to blocks that the file has already still changes its inode, and flushing it has to write the log of the file system too.
 *
 * The way is XFS's own, made for backup programs: a handle of the file, opened through a descriptor of a directory there. Other file systems
 * answer `ENOTTY`.
 */
export async function openUntimed(
  directory: FileHandle,
  file: FileHandle,
  flags: number,
  detail: string,
): Promise<Descriptor> {
  const handle = Buffer.alloc(HANDLE_BYTES);
  const handleLength = Buffer.alloc(4);
  handleLength.writeUInt32LE(HANDLE_BYTES);
  const find = Buffer.alloc(REQUEST_BYTES);
  find.writeUInt32LE(file.fd, 0);
  find.writeBigUInt64LE(addressOf(handle), 40);
  find.writeBigUInt64LE(addressOf(handleLength), 48);
  await ioctl(file, "XFS_IOC_FD_TO_HANDLE", find, detail);
  const open = Buffer.alloc(REQUEST_BYTES);
  open.writeUInt32LE(directory.fd, 0);
  open.writeUInt32LE(flags, 16);
  open.writeBigUInt64LE(addressOf(handle), 24);
  open.writeUInt32LE(handleLength.readUInt32LE(), 32);
  return new Descriptor(await ioctl(directory, "XFS_IOC_OPEN_BY_HANDLE", open, detail));
}
