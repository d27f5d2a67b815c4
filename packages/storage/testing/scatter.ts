import { closeSync, constants, fsyncSync, openSync, writeSync } from "node:fs";

const BLOCK = Buffer.alloc(4096, 7);

/** Overwrites every other block of the file, `count` in all, leaving out the first `skipped`: where blocks are shared with a snapshot, each becomes an extent of its own. */
export function scatterFile(path: string, count: number, skipped = 0): void {
  const file = openSync(path, constants.O_RDWR);
  for (let index = skipped; index < skipped + count; index += 1)
    writeSync(file, BLOCK, 0, BLOCK.length, index * 2 * BLOCK.length);
  fsyncSync(file);
  closeSync(file);
}
