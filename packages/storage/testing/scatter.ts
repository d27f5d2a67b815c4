import { closeSync, constants, fsyncSync, openSync, writeSync } from "node:fs";

const BLOCK = Buffer.alloc(4096, 7);

/** Overwrites every other block of the file, `count` in all: where its blocks are shared with a snapshot, each becomes an extent of its own. */
export function scatterFile(path: string, count: number): void {
  const file = openSync(path, constants.O_RDWR);
  for (let index = 0; index < count; index += 1) writeSync(file, BLOCK, 0, BLOCK.length, index * 2 * BLOCK.length);
  fsyncSync(file);
  closeSync(file);
}
