import type { Budget } from "../host/budget.ts";
import { type LargePayload, PayloadInMemory } from "./large-payload.ts";
import { SpillFile } from "./spill-file.ts";

/** A place for a message of `length` bytes. Waits for memory only when the disk cannot take it. */
export async function holdPayload(length: number, budget: Budget): Promise<LargePayload> {
  if (budget.tryTake(length)) return new PayloadInMemory(length, budget);
  const file = await SpillFile.open();
  if (file !== null) return new PayloadInFile(file);
  await budget.take(length);
  return new PayloadInMemory(length, budget);
}

class PayloadInFile implements LargePayload {
  readonly #file: SpillFile;

  constructor(file: SpillFile) {
    this.#file = file;
  }

  get length(): number {
    return this.#file.length;
  }

  append(bytes: Uint8Array): Promise<boolean> {
    return this.#file.append(bytes);
  }

  read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    return this.#file.read(start, end);
  }

  release(): void {
    this.#file.close();
  }
}
