import { changeMode, KeyedLock, openFile, runTool, step, ToolError } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ImageId, StorageDriver } from "./driver.ts";

/** What an image says about the file system on it, when that can be mounted. */
export interface ForeignFileSystem {
  readonly type: "ext4";
  /** 32 hexadecimal digits. */
  readonly uuid: string;
  readonly sizeBytes: number;
}

const OFFSET = 1024;
const LENGTH = 1024;
const MAGIC = 0xef53;
/** Places in the superblock (struct ext4_super_block of fs/ext4/ext4.h). */
const FIELD = {
  blocks: 0x4,
  logBlockSize: 0x18,
  logClusterSize: 0x1c,
  magic: 0x38,
  state: 0x3a,
  onError: 0x3c,
  revision: 0x4c,
  compatible: 0x5c,
  incompatible: 0x60,
  readOnlyCompatible: 0x64,
  uuid: 0x68,
  journalInode: 0xe0,
  journalDevice: 0xe4,
  lastOrphan: 0xe8,
  defaultOptions: 0x100,
  blocksHigh: 0x150,
  mountOptions: 0x200,
} as const;
const MOUNT_OPTIONS_BYTES = 64;
const LOG_4_KIB = 2;
const LOG_BLOCK_SIZE_MAX = 6;
const IS_CLEAN = 1;
const PANIC = 3;
const HAS_JOURNAL = 0x4;
const NEEDS_RECOVERY = 0x4;
const JOURNAL_INODE = 8;
/** What the tools set and the server's kernels are used with; each other one is code of the kernel that only a foreign image would reach. */
const KNOWN = {
  // has_journal, ext_attr, resize_inode, dir_index, orphan_file
  compatible: 0x4 | 0x8 | 0x10 | 0x20 | 0x1000,
  // filetype, needs_recovery, meta_bg, extent, 64bit, flex_bg, metadata_csum_seed
  incompatible: 0x2 | NEEDS_RECOVERY | 0x10 | 0x40 | 0x80 | 0x200 | 0x2000,
  // sparse_super, large_file, huge_file, uninit_bg, dir_nlink, extra_isize, metadata_csum, orphan_present
  readOnlyCompatible: 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x400 | 0x10000,
  // user_xattr, acl
  defaultOptions: 0x4 | 0x8,
} as const;
const ORPHAN_PRESENT = 0x10000;

const CHECK_DEADLINE_MS = 30 * 60_000;
const CHECK_MEMORY_BYTES = 2 ** 30;
const NOBODY = 65_534;
/** One check at a time has the memory and the processor that it may have. */
const CHECKS = new KeyedLock();

/** What the file system on an image in the pool says that it is. Throws `VOLUME_DAMAGED` where there is none. */
export async function readFileSystemIdentity(storage: StorageDriver, id: ImageId): Promise<ForeignFileSystem> {
  const block = await storage.read(id, OFFSET, LENGTH);
  const sizeBytes = sizeOf(block);
  if (sizeBytes === null)
    throw new CaissonError("VOLUME_DAMAGED", `Cannot use ${id}: there is no file system on it any more`);
  return { type: "ext4", uuid: uuidOf(block), sizeBytes };
}

function sizeOf(block: Buffer): number | null {
  if (block.length < LENGTH || block.readUInt16LE(FIELD.magic) !== MAGIC) return null;
  const blocks = block.readUInt32LE(FIELD.blocks) + block.readUInt32LE(FIELD.blocksHigh) * 2 ** 32;
  const logBlockSize = block.readUInt32LE(FIELD.logBlockSize);
  return blocks === 0 || logBlockSize > LOG_BLOCK_SIZE_MAX ? null : blocks * 2 ** (10 + logBlockSize);
}

function uuidOf(block: Buffer): string {
  return block.subarray(FIELD.uuid, FIELD.uuid + 16).toString("hex");
}

/**
 * Checks the file system of an image that somebody else made, and that may have been made to harm: the kernel of the host is going to mount it. Only features that
 * the server's own file systems have, or harmless ones, are taken; nothing in it may say that the kernel shall use another device, mount it with options of its own, or panic. Then
 * e2fsck must find nothing to mend in any of its structures. What an instant of a running system leaves, a journal to be replayed and files that were deleted while they were open, is
 * settled on the image first.
 *
 * e2fsck runs as nobody and without capabilities, on the file that it is given as its input, with bounded memory, output and time, behind everything else and one at a time.
 * Throws `INVALID_SNAPSHOT_FILE`, and the reason of `signal`, which ends a check that runs and one that waits for its turn.
 */
export async function settleForeignFileSystem(
  path: string,
  imageBytes: number,
  signal: AbortSignal,
): Promise<ForeignFileSystem> {
  const found = await requireHarmless(path, imageBytes);
  const look = (mode: "-n" | "-p"): Promise<void> => inTurn(signal, () => check(path, mode, imageBytes, signal));
  if (!found.isUnsettled) {
    await look("-n");
    return found;
  }
  await look("-p");
  await look("-n");
  // The journal may have held another superblock.
  const settled = await requireHarmless(path, imageBytes);
  if (settled.isUnsettled) throw refused("it needs a repair that the check did not make");
  return settled;
}

async function requireHarmless(
  path: string,
  imageBytes: number,
): Promise<ForeignFileSystem & { readonly isUnsettled: boolean }> {
  const block = Buffer.alloc(LENGTH);
  await using file = await openFile(path, "r");
  const { bytesRead } = await file.read(block, 0, LENGTH, OFFSET);
  const sizeBytes = sizeOf(block.subarray(0, bytesRead));
  if (sizeBytes === null) throw refused("there is none in the image");
  const word = (name: keyof typeof FIELD): number => block.readUInt32LE(FIELD[name]);
  for (const name of ["compatible", "incompatible", "readOnlyCompatible", "defaultOptions"] as const) {
    const unknown = word(name) & ~KNOWN[name];
    if (unknown !== 0)
      throw refused(`it has ${DESCRIPTIONS[name]} that the server does not take (0x${(unknown >>> 0).toString(16)})`);
  }
  if (word("revision") !== 1) throw refused("it has an unknown revision");
  if (word("logBlockSize") !== LOG_4_KIB || word("logClusterSize") !== LOG_4_KIB)
    throw refused("its blocks do not have 4 KiB. Make it with mkfs.ext4 -b 4096");
  if ((word("compatible") & HAS_JOURNAL) === 0) throw refused("it has no journal. Add one with tune2fs -j");
  if (word("journalInode") !== JOURNAL_INODE || word("journalDevice") !== 0)
    throw refused("its journal is elsewhere than inside it");
  if (block.readUInt16LE(FIELD.onError) >= PANIC || block.readUInt16LE(FIELD.onError) === 0)
    throw refused("it wants the kernel to panic at an error. Change that with tune2fs -e remount-ro");
  if (block.subarray(FIELD.mountOptions, FIELD.mountOptions + MOUNT_OPTIONS_BYTES).some((byte) => byte !== 0))
    throw refused('it brings mount options. Remove them with tune2fs -E mount_opts=""');
  if (sizeBytes > imageBytes)
    throw refused(`it has ${sizeBytes} bytes, and the image ${imageBytes}: the image was cut`);
  const isUnsettled =
    (word("incompatible") & NEEDS_RECOVERY) !== 0 ||
    (word("readOnlyCompatible") & ORPHAN_PRESENT) !== 0 ||
    word("lastOrphan") !== 0 ||
    block.readUInt16LE(FIELD.state) !== IS_CLEAN;
  return { type: "ext4", uuid: uuidOf(block), sizeBytes, isUnsettled };
}

const DESCRIPTIONS = {
  compatible: "features",
  incompatible: "features",
  readOnlyCompatible: "features",
  defaultOptions: "default mount options",
} as const;

/** Runs the check when those before it are over. Who stops waiting for that waits for nothing. */
async function inTurn(signal: AbortSignal, run: () => Promise<void>): Promise<void> {
  signal.throwIfAborted();
  const { promise: abandoned, reject } = Promise.withResolvers<never>();
  const abandon = () => reject(signal.reason);
  signal.addEventListener("abort", abandon, { once: true });
  const checked = CHECKS.run("e2fsck", async () => {
    // From here on the check itself ends by the signal, and what it has begun is waited for.
    signal.removeEventListener("abort", abandon);
    signal.throwIfAborted();
    await run();
  });
  await Promise.race([checked, abandoned]);
}

/** Runs e2fsck with nobody's rights. `-n`: finds what is wrong. `-p`: mends what can be mended without losing files. */
async function check(path: string, mode: "-n" | "-p", imageBytes: number, signal: AbortSignal): Promise<void> {
  // Only for the time of the check; nobody but root can reach the file by its path.
  await changeMode(path, mode === "-p" ? 0o666 : 0o444);
  try {
    await using file = await openFile(path, mode === "-p" ? "r+" : "r");
    const memoryBytes = CHECK_MEMORY_BYTES + Math.ceil(imageBytes / 1024);
    const command = [
      // Where memory lacks, it goes first.
      ...["-n", "1000", "--", "nice", "-n", "19", "setpriv"],
      ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--no-new-privs"],
      ...["--inh-caps=-all", "--bounding-set=-all"],
      ...["prlimit", `--as=${memoryBytes}`, `--fsize=${imageBytes}`],
      ...["env", "-i", `PATH=${process.env.PATH}`, "LC_ALL=C"],
      // The superblock that the kernel mounts by: without that, e2fsck judges by copies of it and of the group descriptors where the first ones are bad.
      ...["e2fsck", "-f", "-b", "0", mode, "/dev/stdin"],
    ];
    const found = await step("storage.check-foreign", () =>
      runTool("choom", command, {
        input: file,
        signal: AbortSignal.any([signal, AbortSignal.timeout(CHECK_DEADLINE_MS)]),
      }),
    );
    if (mode === "-n" && hasEarlyFinding(found)) throw refused(REPAIR);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ToolError && mode === "-p" && error.exitCode === EXIT_REPAIRED) return;
    if (error instanceof ToolError && error.exitCode !== null && error.exitCode >= EXIT_CANNOT_RUN) throw error;
    if (error instanceof ToolError || (error instanceof Error && error.name === "TimeoutError"))
      throw refused(REPAIR, error);
    throw error;
  } finally {
    await changeMode(path, 0o600);
  }
}

/** Whether e2fsck would have mended something before its first pass: its exit code does not tell of that. A time in the future is that of another clock. */
function hasEarlyFinding(output: string): boolean {
  const [early = ""] = output.split("Pass 1:");
  return /\? no$/m.test(early.replaceAll(/is in the future\.\s+Fix\? no$/gm, ""));
}

const REPAIR = "e2fsck finds errors in it. Repair it where it comes from, with e2fsck -f";
const EXIT_REPAIRED = 1;
/** The shell's and setpriv's own codes; e2fsck ends below them. */
const EXIT_CANNOT_RUN = 126;

function refused(reason: string, cause?: unknown): CaissonError {
  return new CaissonError("INVALID_SNAPSHOT_FILE", `Cannot use the file system of the image: ${reason}`, { cause });
}
