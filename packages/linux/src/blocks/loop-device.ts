import { constants } from "node:fs";
import { type FileHandle, open, readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { HasDescriptor } from "../calls/descriptor.ts";
import { call } from "../calls/ffi.ts";
import { openFile, syncFile } from "../calls/files.ts";
import { ioctl } from "../calls/ioctl.ts";
import { hasErrorCode, KernelError } from "../calls/kernel-error.ts";

const FLAG = { readOnly: 1, autoclear: 4, directIo: 16 } as const;
const LOOP_INFO_BYTES = 232;
const LOOP_CONFIG_BYTES = 8 + LOOP_INFO_BYTES + 64;
const FILE_NAME_OFFSET = 56;
const FILE_NAME_BYTES = 64;

export interface LoopOptions {
  readonly isReadOnly?: boolean;
  /** Bypass the page cache of the file system below, so that data is cached once. Refused by file systems that cannot. */
  readonly isDirect?: boolean;
  /** Shown by tools such as `losetup`; the first 63 bytes are kept. */
  readonly name?: string;
}

export interface LoopStatus {
  readonly path: string;
  /** `st_dev` and `st_ino` of the backing file. */
  readonly dev: number;
  readonly ino: number;
  readonly name: string;
  readonly isReadOnly: boolean;
  readonly isDirect: boolean;
  readonly isAutoclear: boolean;
}

export interface DetachOptions {
  /** How long to wait for the kernel to let go of the file. */
  readonly timeoutMs?: number;
  /** Nobody wants the contents: nothing is flushed. */
  readonly isDiscarded?: boolean;
}

/**
 * A loop device of ours. It clears itself when the last user closes it, and this object keeps it open: so it lives as long as the object and
 * its mounts do, and a process that dies leaves none behind.
 */
export class LoopDevice {
  readonly path: string;
  readonly #file: FileHandle;
  /** The backing file as the kernel names it. */
  readonly #backing: string;

  private constructor(path: string, file: FileHandle, backing: string) {
    this.path = path;
    this.#file = file;
    this.#backing = backing;
  }

  /** Makes an open file a block device. The caller may close the file afterwards. */
  static async attach(backing: HasDescriptor, options: LoopOptions = {}): Promise<LoopDevice> {
    const config = loopConfig(backing, options);
    const detail = options.name ?? `descriptor ${backing.fd}`;
    await using control = await openFile("/dev/loop-control", constants.O_RDWR);
    // Between asking for a free device and taking it another process may take it; with many of them at work it takes some rounds.
    for (let attempt = 1; ; attempt += 1) {
      const number = await ioctl(control, "LOOP_CTL_GET_FREE", 0, "/dev/loop-control");
      const path = `/dev/loop${number}`;
      const file = await openNode(path, options.isReadOnly === true ? constants.O_RDONLY : constants.O_RDWR);
      try {
        await ioctl(file, "LOOP_CONFIGURE", config, `${path} for ${detail}`);
        return new LoopDevice(path, file, (await readBackingFile(path)) ?? "");
      } catch (error) {
        await file.close();
        if (!hasErrorCode(error, "EBUSY") || attempt === 100) throw error;
        await delay(Math.random() * Math.min(attempt, 20));
      }
    }
  }

  /** Tells the device that its file has grown. */
  async updateCapacity(): Promise<void> {
    await ioctl(this.#file, "LOOP_SET_CAPACITY", 0, this.path);
  }

  async sizeBytes(): Promise<number> {
    const size = Buffer.alloc(8);
    await ioctl(this.#file, "BLKGETSIZE64", size, this.path);
    return Number(size.readBigUInt64LE());
  }

  /** Writes back what the device's own cache holds and flushes the file below. */
  async flush(): Promise<void> {
    await syncFile(this.#file, this.path);
  }

  /**
   * Flushes, closes and waits until the kernel has let go of the file. While something still uses the device (a mount), the wait ends with
   * `EBUSY` and the device is as good as detached: the kernel removes it with its last user. Calling again waits again. A flush that fails
   * is reported after the device is gone, since holding on to it would save nothing.
   */
  async detach({ timeoutMs = 5000, isDiscarded = false }: DetachOptions = {}): Promise<void> {
    let failure: unknown = null;
    if (this.#file.fd !== -1) {
      if (!isDiscarded)
        failure = await this.flush().then(
          () => null,
          (error: unknown) => error,
        );
      await this.#file.close();
    }
    const deadline = performance.now() + timeoutMs;
    while (await this.isAttached()) {
      if (performance.now() > deadline) {
        throw new KernelError("detach", "EBUSY", `${this.path}: still in use after ${timeoutMs} ms; unmount it first`);
      }
      await delay(2);
    }
    if (failure !== null) throw failure;
  }

  /** Whether the device still has our file. Another process may take the device the moment that it is free, so having a backing file does not mean having this one. */
  async isAttached(): Promise<boolean> {
    const backing = await readBackingFile(this.path);
    return backing !== null && backing.replace(/ \(deleted\)$/, "") === this.#backing;
  }
}

/** All loop devices with a backing file that can be looked at, of anybody. */
export async function listLoopDevices(): Promise<readonly LoopStatus[]> {
  const statuses = await Promise.all((await listLoopPaths()).map((path) => readLoopStatus(path)));
  return statuses.filter((status) => status !== null);
}

/** All loop devices, also those that are free. */
export async function listLoopPaths(): Promise<readonly string[]> {
  return (await readdir("/sys/block")).filter((name) => /^loop\d+$/.test(name)).map((name) => `/dev/${name}`);
}

/** What backs a loop device, or `null` when nothing does that can be looked at. Does not open devices that are free. */
export async function readLoopStatus(path: string): Promise<LoopStatus | null> {
  if (!(await isBacked(path))) return null;
  try {
    await using device = await open(path, constants.O_RDONLY);
    const info = Buffer.alloc(LOOP_INFO_BYTES);
    await ioctl(device, "LOOP_GET_STATUS64", info, path);
    const flags = info.readUInt32LE(52);
    const name = info.subarray(FILE_NAME_OFFSET, FILE_NAME_OFFSET + FILE_NAME_BYTES);
    return {
      path,
      dev: Number(info.readBigUInt64LE(0)),
      ino: Number(info.readBigUInt64LE(8)),
      name: name.subarray(0, name.indexOf(0)).toString("utf8"),
      isReadOnly: (flags & FLAG.readOnly) !== 0,
      isAutoclear: (flags & FLAG.autoclear) !== 0,
      isDirect: (flags & FLAG.directIo) !== 0,
    };
  } catch (error) {
    // It was freed, or removed, between the two looks.
    if (hasErrorCode(error, "ENXIO", "ENOENT", "ENODEV")) return null;
    // Its file belongs to a program or a host that is gone (FUSE, NFS), and is no file that anybody can open.
    if (hasErrorCode(error, "ENOTCONN", "ECONNABORTED", "ESTALE", "EIO")) return null;
    throw error;
  }
}

/** The backing file as the kernel names it, or `null`. Deleted files end in ` (deleted)`; paths of other mount namespaces are relative to those. */
export async function readBackingFile(path: string): Promise<string | null> {
  try {
    const text = await readFile(`/sys/block/${path.slice("/dev/".length)}/loop/backing_file`, "utf8");
    return text.replace(/\n$/, "");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT", "ENXIO", "ENODEV")) return null;
    throw error;
  }
}

/** Opens the device, making its node first where `/dev` is not kept by the kernel. */
async function openNode(path: string, flags: number): Promise<FileHandle> {
  try {
    return await openFile(path, flags);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
  const numbers = await readFile(`/sys/block/${path.slice("/dev/".length)}/dev`, "utf8");
  const [major = 0, minor = 0] = numbers.trim().split(":").map(Number);
  const device = (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
  try {
    await call("mknod", [path, constants.S_IFBLK | 0o600, device], { name: "mknod", detail: path });
  } catch (error) {
    if (!hasErrorCode(error, "EEXIST")) throw error;
  }
  return openFile(path, flags);
}

async function isBacked(path: string): Promise<boolean> {
  return (await readBackingFile(path)) !== null;
}

function loopConfig(backing: HasDescriptor, options: LoopOptions): Buffer {
  const config = Buffer.alloc(LOOP_CONFIG_BYTES);
  config.writeUInt32LE(backing.fd, 0);
  const info = config.subarray(8);
  const flags =
    FLAG.autoclear |
    (options.isReadOnly === true ? FLAG.readOnly : 0) |
    (options.isDirect === true ? FLAG.directIo : 0);
  info.writeUInt32LE(flags, 52);
  info.write(options.name ?? "", FILE_NAME_OFFSET, FILE_NAME_BYTES - 1, "utf8");
  return config;
}
