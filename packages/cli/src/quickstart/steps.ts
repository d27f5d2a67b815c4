import type { Output } from "../output/output.ts";

/** A step that was taken. */
export interface Timing {
  readonly step: string;
  readonly durationMs: number;
}

/** Runs steps one after another, says each on its own line when it is done, and keeps how long it took. */
export class Steps {
  readonly timings: Timing[] = [];
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  async run<T>(step: string, action: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    const result = await action();
    const durationMs = performance.now() - startedAt;
    this.timings.push({ step, durationMs });
    if (!this.#output.isJson && !this.#output.isQuiet) {
      this.#output.text(`${this.#output.colors.green("✓")} ${step}`);
    }
    return result;
  }
}
