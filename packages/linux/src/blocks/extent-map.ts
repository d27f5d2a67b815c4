import type { HasDescriptor } from "../calls/descriptor.ts";
import { ioctl } from "../calls/ioctl.ts";

const HEADER_BYTES = 32;
const EXTENT_BYTES = 56;
const EXTENTS_PER_CALL = 1024;
const FLAG = { last: 0x1, unwritten: 0x800, shared: 0x2000 } as const;
const WHOLE_FILE = 0xffff_ffff_ffff_ffffn;

export interface MappedBytes {
  /** Bytes that have blocks, wherever they are shared. */
  readonly mappedBytes: number;
  /** Those of them whose blocks no other file uses. */
  readonly exclusiveBytes: number;
}

/** Counts the blocks of a file from its extent map. What is being written meanwhile may or may not be counted. */
export async function readMappedBytes(file: HasDescriptor, detail: string): Promise<MappedBytes> {
  let mappedBytes = 0;
  let exclusiveBytes = 0;
  for await (const extent of extents(file, detail)) {
    mappedBytes += extent.length;
    if (!extent.isShared) exclusiveBytes += extent.length;
  }
  return { mappedBytes, exclusiveBytes };
}

export interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly isShared: boolean;
  /** Reserved but never written: reads as zeroes. */
  readonly isUnwritten: boolean;
}

/** The extents of a file in order of their offset; holes are left out. */
export async function* extents(file: HasDescriptor, detail: string): AsyncGenerator<Extent> {
  let start = 0n;
  for (;;) {
    const request = Buffer.alloc(HEADER_BYTES + EXTENTS_PER_CALL * EXTENT_BYTES);
    request.writeBigUInt64LE(start, 0);
    request.writeBigUInt64LE(WHOLE_FILE - start, 8);
    request.writeUInt32LE(EXTENTS_PER_CALL, 24);
    await ioctl(file, "FS_IOC_FIEMAP", request, detail);
    const count = request.readUInt32LE(20);
    for (let index = 0; index < count; index += 1) {
      const extent = request.subarray(HEADER_BYTES + index * EXTENT_BYTES);
      const offset = extent.readBigUInt64LE(0);
      const length = extent.readBigUInt64LE(16);
      const flags = extent.readUInt32LE(40);
      yield {
        offset: Number(offset),
        length: Number(length),
        isShared: (flags & FLAG.shared) !== 0,
        isUnwritten: (flags & FLAG.unwritten) !== 0,
      };
      if ((flags & FLAG.last) !== 0) return;
      start = offset + length;
    }
    if (count === 0) return;
  }
}
