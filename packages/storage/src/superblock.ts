import { KernelError, openFile } from "@caisson/linux";
import type { ImageId, StorageDriver } from "./driver.ts";

const OFFSET = 1024;
const LENGTH = 1024;
const MAGIC = 0xef53;
const STATE_HAS_ERRORS = 2;
const INCOMPATIBLE_NEEDS_RECOVERY = 4;
const EXTENT_MAGIC = 0xf30a;

/** What an ext4 file system says about itself, read from its device or image without mounting it. */
export interface Superblock {
  /** Size of the file system: the smallest image that can hold a clone of it. */
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** Files, directories and links that it can hold. */
  readonly inodes: number;
  /** As it was unmounted or frozen last. */
  readonly freeInodes: number;
  /** Not unmounted or frozen properly: the journal holds changes that are not in their places yet. */
  readonly needsRecovery: boolean;
  /** The kernel met an inconsistency and a full check is due. */
  readonly hasErrors: boolean;
  /** No kernel has mounted it yet. */
  readonly isNew: boolean;
  readonly journal: { readonly offset: number; readonly sizeBytes: number } | null;
}

/** Reads the superblock; `null` when there is no ext4 file system. */
export async function readSuperblock(path: string): Promise<Superblock | null> {
  await using file = await openFile(path, "r");
  const block = Buffer.alloc(LENGTH);
  const { bytesRead } = await file.read(block, 0, LENGTH, OFFSET);
  return parseSuperblock(block.subarray(0, bytesRead));
}

/** As `readSuperblock`, of an image in a pool, attached or not. */
export async function readImageSuperblock(storage: StorageDriver, id: ImageId): Promise<Superblock | null> {
  return parseSuperblock(await storage.read(id, OFFSET, LENGTH));
}

function parseSuperblock(block: Buffer): Superblock | null {
  if (block.length < LENGTH || block.readUInt16LE(0x38) !== MAGIC) return null;
  const blockBytes = 1024 << block.readUInt32LE(0x18);
  const blocks = block.readUInt32LE(0x4) + block.readUInt32LE(0x150) * 2 ** 32;
  return {
    sizeBytes: blocks * blockBytes,
    blockBytes,
    inodes: block.readUInt32LE(0x0),
    freeInodes: block.readUInt32LE(0x10),
    needsRecovery: (block.readUInt32LE(0x60) & INCOMPATIBLE_NEEDS_RECOVERY) !== 0,
    hasErrors: (block.readUInt16LE(0x3a) & STATE_HAS_ERRORS) !== 0,
    isNew: block.readUInt32LE(0x2c) === 0,
    journal: readJournalPlace(block, blockBytes),
  };
}

/** As `readSuperblock`, where a file system must be. */
export async function requireSuperblock(path: string): Promise<Superblock> {
  const superblock = await readSuperblock(path);
  if (superblock === null) throw new KernelError("read", "EINVAL", `${path}: no ext4 file system`);
  return superblock;
}

/** The superblock keeps a copy of the journal's extent map; journals of up to 128 MiB are one extent. */
function readJournalPlace(block: Buffer, blockBytes: number): Superblock["journal"] {
  const map = block.subarray(0x10c, 0x10c + 60);
  const isOneExtent = map.readUInt16LE(0) === EXTENT_MAGIC && map.readUInt16LE(2) === 1 && map.readUInt16LE(6) === 0;
  if (!isOneExtent) return null;
  const start = map.readUInt16LE(12 + 6) * 2 ** 32 + map.readUInt32LE(12 + 8);
  return { offset: start * blockBytes, sizeBytes: map.readUInt16LE(12 + 4) * blockBytes };
}
