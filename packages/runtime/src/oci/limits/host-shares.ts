/** How much of what is left above all guarantees one sandbox may take: the fewer are left, the less each further one gets. */
const PART_OF_SPARE = 8;

/**
 * Shares out something of which the host has only so many, such as process ids. Half of it is guaranteed to as many sandboxes as there can be at a
 * time, in equal parts; of the other half each sandbox gets what it may have, up to an eighth of what is left. So together they never have more than
 * `total`, whatever each of them does.
 */
export class HostShares {
  readonly guaranteed: number;
  #spare: number;

  /** The most places of which each is guaranteed `least`. */
  static placesFor(total: number, least: number): number {
    return Math.floor(total / 2 / least);
  }

  constructor(total: number, places: number) {
    this.guaranteed = Math.max(Math.floor(total / 2 / places), 1);
    this.#spare = Math.max(total - this.guaranteed * places, 0);
  }

  /** As much as one sandbox may have, at most `wanted`. Disposing gives it back. */
  take(wanted: number): HostShare {
    const extra = Math.min(Math.max(wanted - this.guaranteed, 0), Math.floor(this.#spare / PART_OF_SPARE));
    this.#spare -= extra;
    let isHeld = true;
    return {
      count: Math.min(wanted, this.guaranteed + extra),
      [Symbol.dispose]: () => {
        if (isHeld) this.#spare += extra;
        isHeld = false;
      },
    };
  }
}

export interface HostShare extends Disposable {
  readonly count: number;
}
