import { readFileSystemInodesNow } from "@caisson/linux";
import type { ImageId, StorageDriver } from "./driver.ts";
import { readImageSuperblock } from "./superblock.ts";

/** How many files, directories and links a file system can hold, and holds; a few are its own. */
export interface InodeCount {
  readonly inodes: number;
  readonly usedInodes: number;
}

/** Reads the counts of the file system on an image: as of now where it is mounted at `mountPath`. Null: there is none. Costs the same at any size. */
export async function countInodes(
  storage: StorageDriver,
  id: ImageId,
  mountPath: string | null,
): Promise<InodeCount | null> {
  const superblock = await readImageSuperblock(storage, id);
  if (superblock === null) return null;
  const { inodes, freeInodes } = superblock;
  const mounted = mountPath === null ? null : readFileSystemInodesNow(mountPath);
  // Another number: it was unmounted meanwhile, and this is the file system below.
  const isSame = mounted !== null && mounted.total === inodes;
  return { inodes, usedInodes: inodes - (isSame ? mounted.free : freeInodes) };
}
