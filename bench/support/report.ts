import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism, release, totalmem } from "node:os";
import { join } from "node:path";

/** The middle value: machines are noisy, and a mean follows the noise. */
export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** The value below which this share of the samples lies. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Runs `work` and returns how long it took, in milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

export function printTable(
  title: string,
  columns: readonly [string, ...string[]],
  rows: readonly (readonly [string, ...(number | string)[]])[],
): void {
  const cells = [columns, ...rows.map((row) => row.map((cell) => (typeof cell === "number" ? cell.toFixed(1) : cell)))];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => (row[index] ?? "").length)));
  console.log(`\n${title}`);
  for (const row of cells) {
    console.log(
      row
        .map((cell, index) => (index === 0 ? cell.padEnd(widths[index] ?? 0) : cell.padStart(widths[index] ?? 0)))
        .join("  "),
    );
  }
}

/** Keeps the figures of a run, with the machine they were measured on, in bench/results. */
export async function writeResults(name: string, results: object): Promise<void> {
  const directory = join(import.meta.dirname, "../results");
  await mkdir(directory, { recursive: true });
  const machine = {
    kernel: release(),
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
    measuredAt: new Date().toISOString(),
  };
  await writeFile(join(directory, `${name}.json`), `${JSON.stringify({ machine, ...results }, null, 2)}\n`);
}
