import { CaissonError } from "@caisson/model";

export type DiskAnswer<T> =
  | { readonly answer: T; readonly problem: null }
  | { readonly answer: null; readonly problem: string };

/** Calls to disks that must keep nothing from the other ones: what fails is told once, until it works again. */
export class DiskFailures {
  readonly #onProblem: (directory: string, problem: string) => void;
  /** By call and directory: of one disk some calls may fail while others work. */
  readonly #failing = new Set<string>();

  constructor(onProblem: (directory: string, problem: string) => void) {
    this.#onProblem = onProblem;
  }

  /** `call`: what is done with the disk, such as `measure`. Throws only what says that the pool is closed. */
  async run<T>(call: string, directory: string, work: () => Promise<T>): Promise<DiskAnswer<T>> {
    try {
      return this.#works(call, directory, await work());
    } catch (error) {
      return this.#fails(call, directory, error);
    }
  }

  #works<T>(call: string, directory: string, answer: T): DiskAnswer<T> {
    this.#failing.delete(`${call} ${directory}`);
    return { answer, problem: null };
  }

  #fails(call: string, directory: string, error: unknown): DiskAnswer<never> {
    if (error instanceof CaissonError && error.code === "SHUTTING_DOWN") throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const problem = `Cannot ${call} the disk ${directory}: ${reason}. See what the kernel's log says of it, and start the server again when it is sound`;
    const key = `${call} ${directory}`;
    if (!this.#failing.has(key)) this.#onProblem(directory, problem);
    this.#failing.add(key);
    return { answer: null, problem };
  }
}
