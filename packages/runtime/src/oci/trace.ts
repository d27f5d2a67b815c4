import { step } from "@caisson/linux";

export interface TraceEntry {
  readonly step: string;
  readonly durationMs: number;
}

/** Measures the steps of one start, each between fault points of its own (`runtime.<step>`). The name is one word. */
export class Trace {
  readonly #entries: TraceEntry[] = [];

  async run<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const start = performance.now();
    const result = await step(`runtime.${name}`, work);
    this.#entries.push({ step: name, durationMs: performance.now() - start });
    return result;
  }

  get entries(): readonly TraceEntry[] {
    return [...this.#entries];
  }
}
