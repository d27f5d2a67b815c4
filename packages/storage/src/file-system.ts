import { rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  findMount,
  hasErrorCode,
  mountFileSystem,
  openFile,
  runTool,
  shutDown,
  step,
  ToolError,
  trim,
  unmount,
} from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { requireSuperblock } from "./superblock.ts";
import { WriteWitness } from "./write-witness.ts";

/**
 * ext4 on a block device. `data`: a volume's own files. `root`: a system to boot from. `scratch`: a disk whose contents end with the sandbox;
 * it has no journal, because there is nothing to recover.
 */
export type FileSystemKind = "data" | "root" | "scratch";

/**
 * Blocks are 4 KiB whatever the size (the tool would take 1 KiB below 512 MB), and none are kept back for a superuser of the host.
 */
const FORMAT_OPTIONS = ["-q", "-b", "4096", "-I", "256", "-m", "0", "-e", "remount-ro"];
/**
 * There is an inode for every 10 KiB: with the usual 16 KiB a volume of 1 GB is full at 61,000 files, as packages of npm have them, and half of it
 * is left. The 97,600 that it has so cost 0.9 % of the room, and nothing in the pool until they are used.
 */
const BYTES_PER_INODE = 10_240;
/**
 * Named one by one, because what the tool takes by itself differs: that of Debian 13 adds `orphan_file`, which kernels before 5.15 and the tools before 1.47 do not
 * mount or check, and a volume may move to a node that has them.
 */
const FEATURES = [
  ...["none", "sparse_super", "large_file", "filetype", "resize_inode", "dir_index", "ext_attr", "extent", "huge_file"],
  ...["flex_bg", "metadata_csum", "64bit", "dir_nlink", "extra_isize"],
].join();
/**
 * Checksums of a volume have a seed of their own instead of the UUID, so that the UUID can be changed (`withNewIdentity`). Every kernel since 4.4 and the tools of
 * every Debian since 9 know that.
 */
const LASTING_FEATURES = `${FEATURES},has_journal,metadata_csum_seed`;
/** A new image is all zeroes, so inode tables and journal need no wiping, now or by a kernel thread later. */
const EXTENDED_OPTIONS = "nodiscard,assume_storage_prezeroed=1";
const JOURNAL_MIB = 16;

/**
 * Makes a file system on the device of a blank image, over the whole of it. What was there is lost. It has at least `inodes` of them, rounded up to
 * what its groups can share evenly; when it grows, in proportion more.
 */
export async function formatFileSystem(
  device: string,
  kind: FileSystemKind,
  { inodes = null }: { readonly inodes?: number | null } = {},
): Promise<void> {
  const count = inodes === null ? ["-i", `${BYTES_PER_INODE}`] : ["-N", `${inodes}`];
  const kindOptions = kind === "scratch" ? ["-O", FEATURES] : ["-O", LASTING_FEATURES, "-J", `size=${JOURNAL_MIB}`];
  await step("storage.format", () =>
    runTool("mkfs.ext4", [...FORMAT_OPTIONS, ...count, ...kindOptions, "-E", EXTENDED_OPTIONS, device]),
  );
}

/** Extends an unmounted file system over the whole of its device. Repairs it first where it was not unmounted properly. */
export async function growFileSystem(device: string): Promise<void> {
  await recoverFileSystem(device);
  // `-f`: without it the tool asks for a full check first, which reads all metadata and takes longer than the growing.
  const resize = (): Promise<string> => step("storage.grow-file-system", () => runTool("resize2fs", ["-f", device]));
  try {
    await resize();
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    // An earlier attempt that was cut off leaves a mark that only a check removes.
    await checkFileSystem(device);
    await resize();
  }
}

/**
 * Brings an unmounted file system into the state that a proper unmount leaves. Must come before a read-only attachment or a seal of an
 * image whose last user may have died; costs one read where there is nothing to do.
 */
export async function recoverFileSystem(device: string): Promise<void> {
  const { needsRecovery, hasErrors } = await requireSuperblock(device);
  if (hasErrors) await checkFileSystem(device);
  else if (needsRecovery) await runCheck(["-p", device]);
}

/** Checks the whole file system and repairs what can be repaired without a decision. */
async function checkFileSystem(device: string): Promise<void> {
  await runCheck(["-f", "-p", device]);
}

const EXIT_REPAIRED = 1;
const EXIT_NOT_REPAIRED = 4;

/** Throws `VOLUME_DAMAGED` where a repair could lose files, so that somebody has to decide. */
async function runCheck(args: readonly string[]): Promise<void> {
  try {
    await runTool("e2fsck", args);
  } catch (error) {
    if (!(error instanceof ToolError) || error.exitCode === null) throw error;
    if (error.exitCode === EXIT_REPAIRED) return;
    if ((error.exitCode & EXIT_NOT_REPAIRED) === 0) throw error;
    throw new CaissonError(
      "VOLUME_DAMAGED",
      "The file system of the volume is damaged, and a repair may lose files, so the server does not begin one. " +
        "Create a volume from its last snapshot, or run e2fsck -f on its image in the pool while nothing uses it",
      { cause: error },
    );
  }
}

export interface VolumeMount {
  readonly device: string;
  readonly target: string;
  readonly kind: FileSystemKind;
  readonly isReadOnly: boolean;
}

/**
 * Mounts the file system. A fresh data volume is empty: the directory for what a repair finds, which the formatting tool and every repair make,
 * would be in the way of programs that want an empty one. What a repair found in it stays. Set-user-id programs work on roots only; an unprivileged guest
 * gains ids of its own by them. Device nodes work nowhere: a sandbox has a /dev of its own, and a root that was imported may hold any.
 */
export async function mountVolume({ device, target, kind, isReadOnly }: VolumeMount): Promise<void> {
  const isData = kind === "data";
  await mountFileSystem(
    { type: "ext4", source: device, target, ...(kind === "scratch" ? { options: "nobarrier" } : {}) },
    { isReadOnly, noAtime: true, noDev: true, noSuid: isData },
  );
  if (!isReadOnly) await removeIfEmpty(join(target, "lost+found"));
}

async function removeIfEmpty(directory: string): Promise<void> {
  try {
    await rmdir(directory);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT", "ENOTEMPTY", "ENOTDIR")) throw error;
  }
}

/**
 * Puts everything on stable storage, then unmounts. Nothing mounted there is success; in use is `EBUSY`. The caller may count on what it
 * wrote being on the device only when this has resolved. Where the data cannot be written any more, as in a full pool, it is unmounted all
 * the same and an `UnwrittenDataError` says so. With the `witness` of the mount it says so too when an earlier writing back failed.
 */
export async function unmountVolume(target: string, witness?: WriteWitness | null): Promise<void> {
  if (!(await isMounted(target))) {
    await witness?.close();
    return;
  }
  const failure = await (witness ?? (await openWitness(target))).settle();
  await step("storage.unmount", () => unmount(target));
  if (failure !== null) throw new UnwrittenDataError(target, failure);
}

/** Whether a file system of a device is mounted there. The kernel's list of all mounts would tell it too, but grows with the sandboxes of a host. */
async function isMounted(target: string): Promise<boolean> {
  try {
    const [inside, outside] = await Promise.all([stat(target), stat(dirname(target))]);
    return inside.dev !== outside.dev;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return false;
    throw error;
  }
}

/** For a mount of which nobody has one. */
async function openWitness(target: string): Promise<WriteWitness> {
  const mount = await findMount(target);
  if (mount === null) throw new Error(`Nothing is mounted at ${target} any more`);
  return WriteWitness.open(mount.source, target);
}

/** Writes that nobody had synced are lost, because the device took no more. What was synced before is whole. */
export class UnwrittenDataError extends Error {
  constructor(target: string, cause: unknown) {
    super(
      `${target} was unmounted, but not everything that was written to it could be put on stable storage: ${String(cause)}`,
      { cause },
    );
    this.name = "UnwrittenDataError";
  }
}

/** Unmounts a scratch disk without writing what nobody will read. Nothing mounted there is success. */
export async function abandonScratch(target: string): Promise<void> {
  if (!(await isMounted(target))) return;
  await using directory = await openFile(target, "r");
  await shutDown(directory, target);
  await directory.close();
  await unmount(target);
}

/** Gives the blocks of deleted files back to the pool, and returns how many bytes that were. */
export async function trimVolume(target: string): Promise<number> {
  await using directory = await openFile(target, "r");
  return await trim(directory, target);
}
