/**
 * Gives each sandbox processors of its own choice among those of the host, so that programs which count processors (nproc, Node, Python, Go)
 * find as many as the sandbox may use. Each new one gets those that the fewest sandboxes have: on a full host some share a processor while
 * another is idle, which is the price.
 */
export class ProcessorShares {
  readonly #holders: Map<number, number>;

  /** Empty: this host cannot confine processes to processors. */
  constructor(processors: readonly number[]) {
    this.#holders = new Map(processors.map((processor) => [processor, 0]));
  }

  /** The processors for a sandbox that may use `count` of them; null: all that there are. Disposing gives them back. */
  take(count: number): ProcessorShare | null {
    const wanted = Math.ceil(count);
    if (wanted >= this.#holders.size) return null;
    const processors = [...this.#holders]
      .sort(([left, leftHolders], [right, rightHolders]) => leftHolders - rightHolders || left - right)
      .slice(0, wanted)
      .map(([processor]) => processor)
      .sort((left, right) => left - right);
    this.#add(processors, 1);
    return { processors, [Symbol.dispose]: () => this.#add(processors, -1) };
  }

  #add(processors: readonly number[], change: number): void {
    for (const processor of processors) this.#holders.set(processor, (this.#holders.get(processor) ?? 0) + change);
  }
}

export interface ProcessorShare extends Disposable {
  readonly processors: readonly number[];
}
