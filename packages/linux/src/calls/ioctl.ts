import type { HasDescriptor } from "./descriptor.ts";
import { call, callSync, type NativeArgument } from "./ffi.ts";

/** Request numbers of ioctl(2), as the kernel's headers define them for x86-64 and arm64. */
const IOCTL = {
  LOOP_CONFIGURE: 0x4c0a,
  LOOP_GET_STATUS64: 0x4c05,
  LOOP_SET_CAPACITY: 0x4c07,
  LOOP_CTL_GET_FREE: 0x4c82,
  BLKGETSIZE64: 0x80081272,
  FICLONE: 0x40049409,
  FICLONERANGE: 0x4020940d,
  FIFREEZE: 0xc0045877,
  FITHAW: 0xc0045878,
  FITRIM: 0xc0185879,
  FS_IOC_FIEMAP: 0xc020660b,
  FS_IOC_FSGETXATTR: 0x801c581f,
  FS_IOC_SHUTDOWN: 0x8004587d,
  XFS_IOC_FSGEOMETRY_V1: 0x80705864,
  XFS_IOC_FD_TO_HANDLE: 0xc038586a,
  XFS_IOC_OPEN_BY_HANDLE: 0xc038586b,
} as const;

export type IoctlName = keyof typeof IOCTL;

/** Makes an ioctl whose argument is a number, or memory that the kernel reads and writes. `detail` says on what, for the error message. */
export async function ioctl(
  file: HasDescriptor,
  name: IoctlName,
  argument: number | Buffer,
  detail: string,
): Promise<number> {
  const args: readonly NativeArgument[] = [file.fd, IOCTL[name], argument];
  return call(typeof argument === "number" ? "ioctlNumber" : "ioctlBuffer", args, { name: `ioctl ${name}`, detail });
}

/** The same on the thread that it is in; see `callSync` for when that is right. */
export function ioctlSync(file: HasDescriptor, name: IoctlName, argument: number | Buffer, detail: string): number {
  const args: readonly NativeArgument[] = [file.fd, IOCTL[name], argument];
  return callSync(typeof argument === "number" ? "ioctlNumber" : "ioctlBuffer", args, {
    name: `ioctl ${name}`,
    detail,
  });
}
