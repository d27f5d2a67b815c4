import type { FileHandle } from "node:fs/promises";
import { type Extent, extents } from "./extent-map.ts";

/** Three maps of more are not worth the memory, which is some 100 bytes for each. */
const EXTENTS_MAX = 200_000;
/** Reading the file is the surer way then: old btrfs may take long to tell what is shared, and whoever waits for the file waits for this. */
const TIME_MAX_MS = 60_000;

/** A part of a file, in bytes. */
export interface FilePart {
  readonly offset: number;
  readonly length: number;
}

/**
 * Where a file may hold something else than another one at the same place, found by their extent maps alone, in order and without overlaps: elsewhere both have the same blocks, or zeros. Nobody writes to either meanwhile, and what was
 * written is on stable storage, or at least synced into the map, which this does.
 *
 * A block that both show at the same place is the same only if both have it at one time. So the map of the file is read before the other's and again after it: where it stayed as it was, its blocks were its own in between, and nothing that moved them, such as a
 * defragmentation, can have given them to the other file. Null: it did not stay, the files are of two file systems, one is not `sizeBytes` (`base`: `baseBytes`) long any more, there are too many extents, or their maps take too long. What is compressed, inline or not allocated yet says nothing
 * of where its bytes lie, and counts as changed.
 */
export async function changedParts(
  { file, sizeBytes }: { readonly file: FileHandle; readonly sizeBytes: number },
  base: { readonly file: FileHandle; readonly sizeBytes: number },
  detail: string,
): Promise<readonly FilePart[] | null> {
  const [{ dev }, { dev: baseDev }] = await Promise.all([file.stat(), base.file.stat()]);
  if (dev !== baseDev) return null;
  const untilMs = performance.now() + TIME_MAX_MS;
  const before = await collect(file, untilMs, detail);
  const others = await collect(base.file, untilMs, `the base of ${detail}`);
  const after = await collect(file, untilMs, detail);
  if (before === null || others === null || after === null || !isSameMap(before, after, sizeBytes)) return null;
  // A map that was read after a file was cut shows holes where there was data.
  const [{ size }, { size: baseSize }] = await Promise.all([file.stat(), base.file.stat()]);
  if (size !== sizeBytes || baseSize !== base.sizeBytes) return null;
  return partsThatDiffer(before, others, sizeBytes, base.sizeBytes);
}

/** Those that hold data, synced; null: there are too many, or it takes too long. */
async function collect(file: FileHandle, untilMs: number, detail: string): Promise<readonly Extent[] | null> {
  const found: Extent[] = [];
  for await (const extent of extents(file, detail, { isSynced: true })) {
    if (extent.isUnwritten && extent.isPlain) continue;
    if (found.push(extent) > EXTENTS_MAX || performance.now() > untilMs) return null;
  }
  return found;
}

/**
 * Whether a file has its blocks where it had them. The borders of extents may have moved: file systems cut a map where sharing begins and ends, and others let go of blocks, or share them, all the time. What says nothing of where its bytes lie
 * counts as changed, wherever it is.
 */
export function isSameMap(before: readonly Extent[], after: readonly Extent[], sizeBytes: number): boolean {
  for (const [was, is] of alongside(before, after, sizeBytes)) {
    if (was?.isPlain === false) continue;
    if (was === null || is === null) {
      if (was !== is) return false;
    } else if (!is.isPlain || !isAtSamePlace(was, is)) return false;
  }
  return true;
}

/** All that the file has grown by counts as changed, holes too: the other one has nothing there, not even zeros. */
export function partsThatDiffer(
  own: readonly Extent[],
  others: readonly Extent[],
  sizeBytes: number,
  baseBytes: number,
): readonly FilePart[] {
  const parts: { offset: number; length: number }[] = [];
  const add = (offset: number, end: number) => {
    const last = parts.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length = end - last.offset;
    else parts.push({ offset, length: end - offset });
  };
  const commonBytes = Math.min(sizeBytes, baseBytes);
  for (const [mine, theirs, offset, end] of alongside(own, others, commonBytes))
    if (!isShared(mine, theirs)) add(offset, end);
  if (commonBytes < sizeBytes) add(commonBytes, sizeBytes);
  return parts;
}

/** Null is a hole. */
function isShared(own: Extent | null, other: Extent | null): boolean {
  if (own === null || other === null) return own === other;
  return isAtSamePlace(own, other) && own.isPlain && other.isPlain && own.isShared && other.isShared;
}

function isAtSamePlace(own: Extent, other: Extent): boolean {
  return own.physicalOffset - own.offset === other.physicalOffset - other.offset;
}

/** Walks over both maps from one boundary to the next: what each has there, null in a hole, and from where to where. */
function* alongside(
  own: readonly Extent[],
  others: readonly Extent[],
  sizeBytes: number,
): Generator<readonly [own: Extent | null, other: Extent | null, offset: number, end: number], void> {
  const cursors = [new Cursor(own), new Cursor(others)] as const;
  for (let at = 0; at < sizeBytes; ) {
    const [mine, theirs] = [cursors[0].at(at), cursors[1].at(at)];
    const end = Math.min(sizeBytes, mine.end, theirs.end);
    yield [mine.extent, theirs.extent, at, end];
    at = end;
  }
}

/** Goes once over the extents of a file. */
class Cursor {
  readonly #extents: readonly Extent[];
  #index = 0;

  constructor(extents: readonly Extent[]) {
    this.#extents = extents;
  }

  /** The extent at `offset`, or null in a hole, and where it ends. Offsets only grow from call to call. */
  at(offset: number): { readonly extent: Extent | null; readonly end: number } {
    for (;;) {
      const extent = this.#extents[this.#index];
      if (extent === undefined) return { extent: null, end: Number.POSITIVE_INFINITY };
      const end = extent.offset + extent.length;
      if (end > offset) return extent.offset > offset ? { extent: null, end: extent.offset } : { extent, end };
      this.#index += 1;
    }
  }
}
