import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import type { DiskCapacity, ImageId, ImagePlace, StorageDriver } from "../driver.ts";

/** How often a pool that could not be opened is tried again, at most. */
const RETRY_MS = 10_000;
/** The longest that one that hangs keeps the sizes of other pools from being told. */
const MEASURE_MS = 3_000;
/** A replicated pool has one disk, so that every image is on it. */
const ANY_IMAGE = "vol_any";
const NOTHING = { totalBytes: 0, availableBytes: 0, freeBytes: 0, headroomBytes: 0 };

export interface ReplicatedPoolOptions {
  /** What it is called among the disks of the pool while its driver is not open, for example `ceph:caisson`. */
  readonly name: string;
  /** Opens its driver. It rejects where the pool cannot be reached, and is tried again then. */
  readonly open: () => Promise<StorageDriver>;
}

/**
 * A pool that may be away when the server starts and come while it runs. It is tried again when its capacity is asked for, which happens every few
 * seconds as long as a node has it.
 */
export class ReplicatedPool {
  readonly #options: ReplicatedPoolOptions;
  readonly #onProblem: (directory: string, problem: string) => void;
  #driver: StorageDriver | null = null;
  #problem = "it is being opened";
  #toldProblem: string | null = null;
  #opening: Promise<void> | null = null;
  #triedAtMs = 0;
  #isClosed = false;

  /** `onProblem`: told once why it cannot be used, until it can be again. */
  constructor(options: ReplicatedPoolOptions, onProblem: (directory: string, problem: string) => void) {
    this.#options = options;
    this.#onProblem = onProblem;
  }

  /** Null: it cannot be used. */
  get driver(): StorageDriver | null {
    return this.#driver;
  }

  /** Of its disk, as `placeOf` tells. */
  get directory(): string {
    return this.placeOf(ANY_IMAGE).directory;
  }

  /** Opens it, or says why not, and resolves in either case. It joins an opening that is under way. */
  open(): Promise<void> {
    this.#opening ??= this.#open().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  require(action: string): StorageDriver {
    if (this.#driver !== null) return this.#driver;
    throw new CaissonError("DISK_UNAVAILABLE", `Cannot ${action}: ${this.#describe(this.#problem)}`);
  }

  placeOf(id: ImageId): ImagePlace {
    return this.#driver?.placeOf(id) ?? { directory: this.#options.name, problem: this.#describe(this.#problem) };
  }

  /** Of its disks. One that cannot be measured has a problem; this never throws. */
  async capacity(): Promise<readonly DiskCapacity[]> {
    const driver = this.#driver;
    if (driver === null) {
      if (performance.now() - this.#triedAtMs >= RETRY_MS && !this.#isClosed) void this.open();
      return [this.#unusable(this.#describe(this.#problem))];
    }
    try {
      const { disks } = await within(MEASURE_MS, driver.capacity());
      this.#toldProblem = null;
      return disks.map((disk) => ({ ...disk, class: "replicated" as const }));
    } catch (error) {
      return [this.#unusable(this.#tell(error))];
    }
  }

  /** It is not opened again. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#opening;
    await this.#driver?.close();
  }

  async #open(): Promise<void> {
    if (this.#driver !== null) return;
    try {
      this.#driver = await this.#options.open();
      this.#toldProblem = null;
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error);
      this.#tell(error);
    } finally {
      this.#triedAtMs = performance.now();
    }
  }

  #unusable(problem: string): DiskCapacity {
    return { ...NOTHING, directory: this.#options.name, problem, class: "replicated" };
  }

  #tell(error: unknown): string {
    const problem = this.#describe(error instanceof Error ? error.message : String(error));
    if (this.#toldProblem !== problem) this.#onProblem(this.#options.name, problem);
    this.#toldProblem = problem;
    return problem;
  }

  #describe(reason: string): string {
    return `the replicated pool ${this.#options.name} cannot be used: ${reason}. What lies there is not lost, and it is tried again`;
  }
}

async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = delay(limitMs, null, { signal: timer.signal }).then(() => {
    throw new Error(`it has not answered for ${limitMs / 1000} s`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}
