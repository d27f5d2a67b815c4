import type { HasDescriptor } from "../calls/descriptor.ts";
import { ioctl, ioctlSync } from "../calls/ioctl.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";

const HEADER_BYTES = 32;
const EXTENT_BYTES = 56;
const EXTENTS_PER_CALL = 1024;
const FLAG = { last: 0x1, unwritten: 0x800, merged: 0x1000, shared: 0x2000 } as const;
const PLAIN = FLAG.last | FLAG.unwritten | FLAG.merged | FLAG.shared;
const WHOLE_FILE = 0xffff_ffff_ffff_ffffn;
const FIEMAP_SYNC = 1;
const ATTRIBUTES_BYTES = 28;
const ATTRIBUTES_EXTENTS_OFFSET = 8;

export interface MappedBytes {
  /** Bytes that have blocks, wherever they are shared. */
  readonly mappedBytes: number;
  /** Those of them whose blocks are not the base's at the same place; without a base, all. */
  readonly ownBytes: number;
  /** Those of them whose blocks no other file uses. */
  readonly exclusiveBytes: number;
}

export interface MeasureOptions {
  /** The file that this one began as a clone of. */
  readonly base?: HasDescriptor | null;
  /** Gives up beyond this many extents of file and base together. Default: none. */
  readonly maxExtents?: number;
}

/**
 * Counts the blocks of a file from its extent map, in one pass over it and its base's. What is being written meanwhile may or may not be
 * counted. Null: there are more extents than the caller wants to wait for; a hundred thousand take about 0.3 s of processor time.
 */
export async function readMappedBytes(
  file: HasDescriptor,
  detail: string,
  { base = null, maxExtents = Number.POSITIVE_INFINITY }: MeasureOptions = {},
): Promise<MappedBytes | null> {
  let left = maxExtents;
  let mappedBytes = 0;
  let baseBytes = 0;
  let exclusiveBytes = 0;
  await using baseExtents = new ExtentCursor(base === null ? null : extents(base, `the base of ${detail}`));
  for await (const extent of extents(file, detail)) {
    left -= 1;
    if (left < baseExtents.count) return null;
    mappedBytes += extent.length;
    if (!extent.isShared) {
      exclusiveBytes += extent.length;
      continue;
    }
    const end = extent.offset + extent.length;
    for (
      let other = await baseExtents.seek(extent.offset);
      other !== null && other.offset < end;
      other = await baseExtents.next()
    ) {
      // The same block stands at the same place in both exactly when both extents lie equally far from their blocks.
      if (other.physicalOffset - other.offset === extent.physicalOffset - extent.offset) {
        baseBytes += Math.min(end, other.offset + other.length) - Math.max(extent.offset, other.offset);
      }
      if (other.offset + other.length >= end) break;
    }
  }
  return left < baseExtents.count ? null : { mappedBytes, ownBytes: mappedBytes - baseBytes, exclusiveBytes };
}

export interface Extent {
  readonly offset: number;
  /** Where its first block lies on the device. */
  readonly physicalOffset: number;
  readonly length: number;
  readonly isShared: boolean;
  /** Reserved but never written: reads as zeroes. */
  readonly isUnwritten: boolean;
  /** Its bytes lie where it says, as they are: it is allocated, and neither compressed, encrypted nor packed with others. */
  readonly isPlain: boolean;
}

/**
 * How many extents a file has, at no cost where the file system counts them (XFS). Elsewhere they are looked at, and 1,024 means that there may be
 * more.
 */
export async function countExtents(file: HasDescriptor, detail: string): Promise<number> {
  const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
  try {
    await ioctl(file, "FS_IOC_FSGETXATTR", attributes, detail);
    const count = attributes.readUInt32LE(ATTRIBUTES_EXTENTS_OFFSET);
    if (count > 0) return count;
  } catch (error) {
    if (!hasErrorCode(error, "ENOTTY", "ENOTSUP")) throw error;
  }
  const request = mapRequest(0, EXTENTS_PER_CALL);
  await ioctl(file, "FS_IOC_FIEMAP", request, detail);
  return request.readUInt32LE(MAPPED_OFFSET);
}

/** The extents of a file in order of their offset; holes are left out. `isSynced`: what is still in the page cache is written first, so that the map shows it. */
export async function* extents(
  file: HasDescriptor,
  detail: string,
  { isSynced = false }: { readonly isSynced?: boolean } = {},
): AsyncGenerator<Extent, void> {
  for (let start: number | null = 0; start !== null; ) {
    const request = mapRequest(start, EXTENTS_PER_CALL);
    if (isSynced) request.writeUInt32LE(FIEMAP_SYNC, FLAGS_OFFSET);
    await ioctl(file, "FS_IOC_FIEMAP", request, detail);
    const batch = readBatch(request);
    yield* batch.extents;
    start = batch.nextOffset;
  }
}

/** Some of the extents of a file, and where the rest begins. */
export interface ExtentBatch {
  readonly extents: readonly Extent[];
  /** Null when there are no more. */
  readonly nextOffset: number | null;
}

export interface ExtentBatchOptions {
  readonly offset: number;
  readonly maxExtents: number;
  /** What is still in the page cache is written first, so that the map shows it. */
  readonly isSynced?: boolean;
}

/** Reads the extents from `offset` on. For a thread that may block. */
export function readExtentsSync(file: HasDescriptor, options: ExtentBatchOptions, detail: string): ExtentBatch {
  const request = mapRequest(options.offset, options.maxExtents);
  if (options.isSynced === true) request.writeUInt32LE(FIEMAP_SYNC, FLAGS_OFFSET);
  ioctlSync(file, "FS_IOC_FIEMAP", request, detail);
  return readBatch(request);
}

const FLAGS_OFFSET = 16;
const MAPPED_OFFSET = 20;

function mapRequest(start: number, maxExtents: number): Buffer {
  const request = Buffer.alloc(HEADER_BYTES + maxExtents * EXTENT_BYTES);
  request.writeBigUInt64LE(BigInt(start), 0);
  request.writeBigUInt64LE(WHOLE_FILE - BigInt(start), 8);
  request.writeUInt32LE(maxExtents, 24);
  return request;
}

function readBatch(request: Buffer): ExtentBatch {
  const found: Extent[] = [];
  const count = request.readUInt32LE(MAPPED_OFFSET);
  for (let index = 0; index < count; index += 1) {
    const at = HEADER_BYTES + index * EXTENT_BYTES;
    const offset = Number(request.readBigUInt64LE(at));
    const length = Number(request.readBigUInt64LE(at + 16));
    const flags = request.readUInt32LE(at + 40);
    found.push({
      offset,
      physicalOffset: Number(request.readBigUInt64LE(at + 8)),
      length,
      isShared: (flags & FLAG.shared) !== 0,
      isUnwritten: (flags & FLAG.unwritten) !== 0,
      isPlain: (flags & ~PLAIN) === 0,
    });
    if ((flags & FLAG.last) !== 0) return { extents: found, nextOffset: null };
  }
  const last = found.at(-1);
  return { extents: found, nextOffset: last === undefined ? null : last.offset + last.length };
}

/** Walks once over the extents of a file; of no file, there are none. */
class ExtentCursor implements AsyncDisposable {
  readonly #extents: AsyncGenerator<Extent, void> | null;
  #current: Extent | null = null;
  #isDone: boolean;
  /** How many were read so far. */
  count = 0;

  constructor(source: AsyncGenerator<Extent, void> | null) {
    this.#extents = source;
    this.#isDone = source === null;
  }

  /** The first extent that ends behind `offset`; null when there is none. Offsets only grow from call to call. */
  async seek(offset: number): Promise<Extent | null> {
    if (this.#current === null) await this.next();
    while (this.#current !== null && this.#current.offset + this.#current.length <= offset) await this.next();
    return this.#current;
  }

  async next(): Promise<Extent | null> {
    if (this.#isDone) return null;
    const result = await this.#extents?.next();
    this.#isDone = result === undefined || result.done === true;
    this.#current = result === undefined || result.done === true ? null : result.value;
    if (!this.#isDone) this.count += 1;
    return this.#current;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#extents?.return();
  }
}
