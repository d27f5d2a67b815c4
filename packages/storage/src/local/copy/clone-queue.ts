import { KeyedLock } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ImageId } from "../../driver.ts";

/** What a caller waits for at most, with a margin below the 10 seconds after which clients give up. */
const LONGEST_WAIT_MS = 8_000;
/** Until copies of this run have been timed. */
const FIRST_MS_PER_EXTENT = 0.02;
/** How much of the figure each copy changes. */
const NEW_PART = 0.3;

/**
 * Clones of one fragmented image, one after the other: each locks the image, so side by side all of them would end as late as the last. Whoever would wait
 * longer than a client does is told to try again, when one that was made meanwhile may be ready.
 */
export class CloneQueue {
  readonly #turns = new KeyedLock();
  /** Extents that are still to be copied, by image. */
  readonly #queued = new Map<ImageId, number>();
  #msPerExtent = FIRST_MS_PER_EXTENT;

  /** Runs `clone` when it is its turn. Throws `SNAPSHOT_BUSY` instead where others are before it and it would take too long. */
  async run<T>(parent: ImageId, extents: number, action: string, clone: () => Promise<T>): Promise<T> {
    const before = this.#queued.get(parent) ?? 0;
    if (before > 0 && (before + extents) * this.#msPerExtent > LONGEST_WAIT_MS) {
      throw new CaissonError(
        "SNAPSHOT_BUSY",
        `Cannot ${action} now: others are made from ${parent} just now, which is in ${extents} parts and takes a while to clone. Try again in a few seconds`,
      );
    }
    this.#queued.set(parent, before + extents);
    try {
      return await this.#turns.run(parent, clone);
    } finally {
      const left = (this.#queued.get(parent) ?? extents) - extents;
      if (left > 0) this.#queued.set(parent, left);
      else this.#queued.delete(parent);
    }
  }

  /** How long a copy took. */
  learn(extents: number, tookMs: number): void {
    if (extents > 0) this.#msPerExtent += NEW_PART * (tookMs / extents - this.#msPerExtent);
  }
}
