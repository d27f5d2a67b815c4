/** A volume has at least this many inodes: with fewer hardly a program finds room for its files. */
export const MINIMUM_INODES = 1024;

/** The most inodes that a volume may have: more than one for each block (4 KiB) would be of no use, and that many take 6 % of the room. */
export function maximumInodes(sizeBytes: number): number {
  return Math.floor(sizeBytes / 4096);
}
