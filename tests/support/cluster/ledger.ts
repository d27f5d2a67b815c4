/** Records of one generation that follow each other in a writer's file. */
export interface Run {
  readonly generation: number;
  readonly first: number;
  readonly last: number;
  /** When the first and the last of them were made, in seconds. */
  readonly from: number;
  readonly until: number;
}

/** What a writer's file holds. */
export interface FileContents {
  readonly runs: readonly Run[];
  /** Places of records that are not as they were written. */
  readonly bad: readonly number[];
  /** Number of records. */
  readonly places: number;
}

interface Acknowledged {
  readonly last: number;
  readonly at: number;
}

/** What was acknowledged up to some moment: by generation, the last sequence. */
export type Floor = ReadonlyMap<number, Acknowledged>;

/** Remembers what the writers of one volume were told is durable, and compares that with what the volume holds. */
export class Ledger {
  readonly #acknowledged = new Map<number, Acknowledged>();
  #generation = 0;
  #acknowledgedGeneration = 0;
  #count = 0;

  /** For a writer that begins: later than all before. */
  nextGeneration(): number {
    this.#generation += 1;
    return this.#generation;
  }

  /** Of the latest writer that has begun. */
  get generation(): number {
    return this.#generation;
  }

  /** Of the latest record that was acknowledged. */
  get acknowledgedGeneration(): number {
    return this.#acknowledgedGeneration;
  }

  /** Number of records that were acknowledged. */
  get count(): number {
    return this.#count;
  }

  /** `at`: when the record was made, in seconds. */
  acknowledge(generation: number, sequence: number, at: number): void {
    this.#acknowledged.set(generation, { last: sequence, at });
    this.#acknowledgedGeneration = generation;
    this.#count += 1;
  }

  floor(): Floor {
    return new Map(this.#acknowledged);
  }

  /** What contradicts the floor. */
  static violations(floor: Floor, { runs, bad, places }: FileContents): readonly string[] {
    const found: string[] = [];
    const byGeneration = new Map<number, Run>();
    let before: Run | null = null;
    for (const run of runs) {
      if (byGeneration.has(run.generation)) found.push(`two writers: generation ${run.generation} is in two pieces`);
      byGeneration.set(run.generation, run);
      if (run.first !== 0) found.push(`lost: generation ${run.generation} begins with ${run.first}`);
      if (before !== null && before.generation >= run.generation)
        found.push(`two writers: generation ${before.generation} stands before ${run.generation}`);
      if (before !== null && before.until > run.from)
        found.push(`two writers: generation ${before.generation} wrote when ${run.generation} had begun`);
      before = run;
    }
    for (const [generation, { last, at }] of floor) {
      const run = byGeneration.get(generation);
      if (run === undefined) found.push(`lost: all of generation ${generation}, of which ${last} was acknowledged`);
      else if (run.last < last)
        found.push(`lost: ${run.last + 1} to ${last} of generation ${generation}, which were acknowledged`);
      const later = runs.find((other) => other.generation > generation);
      if (later !== undefined && later.from < at)
        found.push(`two writers: generation ${generation} was acknowledged when ${later.generation} had begun`);
    }
    // The last one may be half written, when nobody was told of it.
    const broken = bad.filter((place) => place !== places - 1);
    if (broken.length > 0)
      found.push(`damaged: ${broken.length} records, the first at place ${broken[0]} of ${places}`);
    return found;
  }
}
