import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A place where the server may be made to fail: the n-th passing of a tag. */
export interface FaultPoint {
  readonly tag: string;
  readonly occurrence: number;
}

/** What happens at a point. `wait` lasts until the plan is written anew. */
export type FaultAction = "kill" | "wait" | `fail:${string}` | `delay:${number}`;

/** Steers the fault injection of a server that was started with `env` (packages/linux/src/operations/fault.ts). */
export class FaultPlan {
  readonly #planPath: string;
  readonly #tracePath: string;
  #revision = 0;

  constructor(directory: string) {
    this.#planPath = join(directory, "fault-plan");
    this.#tracePath = join(directory, "fault-trace");
  }

  get env(): Record<string, string> {
    return { CAISSON_FAULT_PLAN: this.#planPath, CAISSON_FAULT_TRACE: this.#tracePath };
  }

  /** Nothing fails; counting and the trace begin again. */
  async reset(): Promise<void> {
    await this.at([], "kill");
  }

  /** The same happens at each of the points; counting and the trace begin again. */
  async at(points: readonly FaultPoint[], action: FaultAction): Promise<void> {
    this.#revision += 1;
    await writeFile(this.#tracePath, "");
    const lines = points.map(({ tag, occurrence }) => `${tag} ${occurrence} ${action}\n`);
    // A new text makes the server count from one again.
    await writeFile(this.#planPath, `revision ${this.#revision}\n${lines.join("")}`);
  }

  /** What was passed since the plan was last written. */
  async passed(): Promise<readonly FaultPoint[]> {
    const lines = (await readFile(this.#tracePath, "utf8")).split("\n").filter((line) => line !== "");
    return lines.map((line) => {
      const [tag = "", occurrence = "0"] = line.split(" ");
      return { tag, occurrence: Number(occurrence) };
    });
  }
}
