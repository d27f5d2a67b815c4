import type { Budget } from "../host/budget.ts";

/**
 * The bytes of one large message, in memory while the budget has room and in a file otherwise. Its owner releases it, once, when nothing of the
 * message is needed any more.
 */
export interface LargePayload {
  readonly length: number;
  /** False when there is no place for more. */
  append(bytes: Uint8Array): boolean | Promise<boolean>;
  read(start: number, end: number): Uint8Array<ArrayBuffer> | Promise<Uint8Array<ArrayBuffer>>;
  release(): void;
}

/** A payload in memory that has been taken from the budget already. */
export class PayloadInMemory implements LargePayload {
  #bytes: Uint8Array<ArrayBuffer>;
  readonly #budget: Budget;
  #length = 0;

  constructor(capacity: number, budget: Budget) {
    this.#bytes = new Uint8Array(capacity);
    this.#budget = budget;
  }

  get length(): number {
    return this.#length;
  }

  append(bytes: Uint8Array): boolean {
    if (this.#length + bytes.length > this.#bytes.length) return false;
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return true;
  }

  read(start: number, end: number): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(start, end);
  }

  release(): void {
    if (this.#bytes.length === 0) return;
    this.#budget.give(this.#bytes.length);
    // Gives the memory back now; the garbage collector would let it lie.
    this.#bytes.buffer.transfer(0);
    this.#bytes = new Uint8Array();
  }
}
