import { type Extent, type HasDescriptor, readExtentsSync } from "@caisson/linux";
import type { ByteRange } from "./dirty-blocks.ts";

const EXTENTS_PER_CALL = 1024;

/**
 * The ranges in which two files of one file system do not share their blocks, in order. Sharing the same block at the same place they are equal, since
 * whoever writes to a shared block gets a new one. `onProgress` runs now and then. For a thread that may block.
 */
export function* differingRanges(
  left: HasDescriptor,
  right: HasDescriptor,
  detail: string,
  onProgress: () => void,
): Generator<ByteRange, void> {
  const [a, b] = [new Cursor(left, detail, onProgress), new Cursor(right, detail, onProgress)];
  let position = 0;
  let start: number | null = null;
  for (;;) {
    const [here, there] = [a.at(position), b.at(position)];
    if (here === null && there === null) break;
    const isEqual = blockAt(here, position) === blockAt(there, position);
    const next = Math.min(nextChange(here, position), nextChange(there, position));
    if (isEqual && start !== null) {
      yield { offset: start, length: position - start };
      start = null;
    } else if (!isEqual) start ??= position;
    position = next;
  }
  if (start !== null) yield { offset: start, length: position - start };
}

/** Where the block at `position` lies; null in a hole. */
function blockAt(extent: Extent | null, position: number): number | null {
  return extent === null || extent.offset > position ? null : extent.physicalOffset + position - extent.offset;
}

function nextChange(extent: Extent | null, position: number): number {
  if (extent === null) return Number.POSITIVE_INFINITY;
  return extent.offset > position ? extent.offset : extent.offset + extent.length;
}

/** Walks once over a file's extents. Reserved blocks that were never written read as zeroes, so they count as holes. */
class Cursor {
  readonly #file: HasDescriptor;
  readonly #detail: string;
  readonly #onBatch: () => void;
  #batch: readonly Extent[] = [];
  #index = 0;
  #nextOffset: number | null = 0;

  constructor(file: HasDescriptor, detail: string, onBatch: () => void) {
    this.#file = file;
    this.#detail = detail;
    this.#onBatch = onBatch;
  }

  /** The first extent that ends behind `position`, which only grows. */
  at(position: number): Extent | null {
    for (;;) {
      const extent = this.#batch[this.#index];
      if (extent !== undefined) {
        if (!extent.isUnwritten && extent.offset + extent.length > position) return extent;
        this.#index += 1;
        continue;
      }
      if (this.#nextOffset === null) return null;
      const options = { offset: this.#nextOffset, maxExtents: EXTENTS_PER_CALL, isSynced: this.#nextOffset === 0 };
      const { extents, nextOffset } = readExtentsSync(this.#file, options, this.#detail);
      this.#onBatch();
      this.#batch = extents;
      this.#index = 0;
      this.#nextOffset = nextOffset;
    }
  }
}
