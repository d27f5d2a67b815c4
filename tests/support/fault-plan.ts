import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A place where the server may be made to fail: the n-th passing of a tag. */
export interface FaultPoint {
  readonly tag: string;
  readonly occurrence: number;
}

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
    await this.#write("");
  }

  async killAt(point: FaultPoint): Promise<void> {
    await this.#write(`${point.tag} ${point.occurrence} kill\n`);
  }

  /** What was passed since the plan was last written. */
  async passed(): Promise<readonly FaultPoint[]> {
    const lines = (await readFile(this.#tracePath, "utf8")).split("\n").filter((line) => line !== "");
    return lines.map((line) => {
      const [tag = "", occurrence = "0"] = line.split(" ");
      return { tag, occurrence: Number(occurrence) };
    });
  }

  async #write(text: string): Promise<void> {
    this.#revision += 1;
    await writeFile(this.#tracePath, "");
    // A new text makes the server count from one again.
    await writeFile(this.#planPath, `revision ${this.#revision}\n${text}`);
  }
}
