import { CaissonError } from "@caisson/model";

export interface TransferLimits {
  /** Exports and imports of all organizations together. */
  readonly max: number;
  readonly maxPerOrganization: number;
}

/** How many exports and imports run: each takes memory for a few chunks, and a part of the processors and of the pool's disk. */
export class TransferPlaces {
  readonly #limits: TransferLimits;
  readonly #taken = new Map<string, number>();

  constructor(limits: TransferLimits) {
    this.#limits = limits;
  }

  /** Takes a place, which its disposal gives back. Throws `TOO_MANY_TRANSFERS`. */
  take(organizationId: string): Disposable {
    const own = this.#taken.get(organizationId) ?? 0;
    const all = [...this.#taken.values()].reduce((sum, count) => sum + count, 0);
    const { max, maxPerOrganization } = this.#limits;
    if (own >= maxPerOrganization) throw tooMany(`${own} exports and imports of the organization`, maxPerOrganization);
    if (all >= max) throw tooMany(`${all} exports and imports`, max);
    this.#taken.set(organizationId, own + 1);
    let isGivenBack = false;
    return {
      [Symbol.dispose]: () => {
        if (isGivenBack) return;
        isGivenBack = true;
        const left = (this.#taken.get(organizationId) ?? 1) - 1;
        if (left === 0) this.#taken.delete(organizationId);
        else this.#taken.set(organizationId, left);
      },
    };
  }
}

function tooMany(running: string, most: number): CaissonError {
  return new CaissonError(
    "TOO_MANY_TRANSFERS",
    `Cannot begin another export or import: ${running} are under way, and ${most} may be. Try again when one is over`,
  );
}
