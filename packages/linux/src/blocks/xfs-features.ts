import { openFile } from "../calls/files.ts";
import { ioctl } from "../calls/ioctl.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";

const GEOMETRY_BYTES = 112;
const GEOMETRY_FLAGS_OFFSET = 92;
const GEOMETRY_REVERSE_MAP = 1 << 19;
const SUPERBLOCK_BYTES = 512;
const SUPERBLOCK_MAGIC = "XFSB";
const READ_ONLY_FEATURES_OFFSET = 212;
const FEATURE_REVERSE_MAP = 1 << 1;

/**
 * Whether the XFS file system that `path` lies on keeps a reverse map (`rmapbt`): an entry for each extent of each file, which makes every clone of a
 * fragmented file cost three times as much. `null` on other file systems.
 */
export async function hasReverseMap(path: string): Promise<boolean | null> {
  await using file = await openFile(path, "r");
  const geometry = Buffer.alloc(GEOMETRY_BYTES);
  try {
    await ioctl(file, "XFS_IOC_FSGEOMETRY_V1", geometry, path);
  } catch (error) {
    if (hasErrorCode(error, "ENOTTY", "ENOTSUP", "EINVAL")) return null;
    throw error;
  }
  return (geometry.readUInt32LE(GEOMETRY_FLAGS_OFFSET) & GEOMETRY_REVERSE_MAP) !== 0;
}

/** The same of a file that holds an XFS file system, mounted or not. `null` when it holds none. */
export async function holdsReverseMap(imagePath: string): Promise<boolean | null> {
  await using file = await openFile(imagePath, "r");
  const superblock = Buffer.alloc(SUPERBLOCK_BYTES);
  const { bytesRead } = await file.read(superblock, 0, superblock.length, 0);
  if (bytesRead < superblock.length || superblock.toString("latin1", 0, 4) !== SUPERBLOCK_MAGIC) return null;
  return (superblock.readUInt32BE(READ_ONLY_FEATURES_OFFSET) & FEATURE_REVERSE_MAP) !== 0;
}
