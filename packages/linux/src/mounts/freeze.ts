import type { HasDescriptor } from "../calls/descriptor.ts";
import { passFaultPointSync } from "../calls/ffi.ts";
import { ioctl, ioctlSync } from "../calls/ioctl.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";

/** Writes everything of the file system to its device, in a state that needs no recovery, and makes writers wait until it is thawed. Frozen already is `EBUSY`. */
export async function freeze(mount: HasDescriptor, detail: string): Promise<void> {
  await ioctl(mount, "FIFREEZE", 0, detail);
}

/** The same for a thread that may block. */
export function freezeSync(mount: HasDescriptor, detail: string): void {
  passFaultPointSync({ name: "ioctl FIFREEZE", detail });
  ioctlSync(mount, "FIFREEZE", 0, detail);
}

/**
 * Lets writers go on. Not frozen is success. It runs on the thread that it is in and passes no fault point: the worker threads may all be waiting for
 * this very thaw, and nothing may keep a file system frozen.
 */
export function thaw(mount: HasDescriptor, detail: string): void {
  try {
    ioctlSync(mount, "FITHAW", 0, detail);
  } catch (error) {
    if (!hasErrorCode(error, "EINVAL")) throw error;
  }
}

const RANGE_BYTES = 24;
const WHOLE_RANGE = 0xffff_ffff_ffff_ffffn;

/** Tells the device which blocks the file system does not use, and returns how many bytes those were. */
export async function trim(mount: HasDescriptor, detail: string): Promise<number> {
  const range = Buffer.alloc(RANGE_BYTES);
  range.writeBigUInt64LE(WHOLE_RANGE, 8);
  await ioctl(mount, "FITRIM", range, detail);
  return Number(range.readBigUInt64LE(8));
}

const SHUTDOWN_WITHOUT_FLUSH = 2;

/** Stops a file system dead: nothing more reaches its device, and what was not written is lost. For disks whose contents nobody wants any more. */
export async function shutDown(mount: HasDescriptor, detail: string): Promise<void> {
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(SHUTDOWN_WITHOUT_FLUSH);
  await ioctl(mount, "FS_IOC_SHUTDOWN", argument, detail);
}
