import { type FileHandle, open } from "node:fs/promises";
import { freeze, syncFileSystem, thaw, withExpeditedRcu } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

export interface FreezeOptions {
  /** How long writers may stand still at most, in milliseconds. When it passes, the file system is thawed whatever else happens. */
  readonly deadlineMs: number;
}

/** Before the freeze, data is written out while the guest still runs. When that took longer than this, what came meanwhile is much, too. */
const SHORT_SYNC_MS = 20;

/**
 * A mounted file system standing still, so that its device holds a state that needs no recovery:
 *
 * ```ts
 * await using frozen = await FrozenFileSystem.freeze(mountPath, { deadlineMs: 2000 });
 * await copy();
 * frozen.thaw();
 * ```
 *
 * It thaws when it is disposed of, when the deadline passes, and, if the process dies, when the pool is opened again.
 */
export class FrozenFileSystem implements AsyncDisposable {
  readonly #directory: FileHandle;
  readonly #target: string;
  readonly #deadlineMs: number;
  readonly #startMs: number;
  readonly #timer: NodeJS.Timeout;
  #stalledMs: number | null = null;
  #isExpired = false;

  private constructor(directory: FileHandle, target: string, startMs: number, deadlineMs: number) {
    this.#directory = directory;
    this.#target = target;
    this.#deadlineMs = deadlineMs;
    this.#startMs = startMs;
    this.#timer = setTimeout(() => this.#expire(), Math.max(0, startMs + deadlineMs - performance.now()));
  }

  static async freeze(target: string, { deadlineMs }: FreezeOptions): Promise<FrozenFileSystem> {
    const directory = await open(target, "r");
    try {
      await syncWhileRunning(directory, target);
      return await withExpeditedRcu(async () => {
        const startMs = performance.now();
        await freeze(directory, target);
        return new FrozenFileSystem(directory, target, startMs, deadlineMs);
      });
    } catch (error) {
      await directory.close();
      throw error;
    }
  }

  /** How long writers stood still, or stand still already, in milliseconds. */
  get stalledMs(): number {
    return this.#stalledMs ?? performance.now() - this.#startMs;
  }

  /** Whether the deadline has passed before the thaw: what was copied meanwhile may have been written to. */
  get isExpired(): boolean {
    return this.#isExpired;
  }

  /**
   * Lets writers go on. Again is success; but after the deadline it throws, because what was copied meanwhile may have been written to: the
   * copy must not be used.
   */
  thaw(): void {
    this.#thaw();
    if (!this.#isExpired) return;
    throw new CaissonError(
      "INTERNAL_ERROR",
      `Cannot copy the file system at ${this.#target}: it stood still for ${this.#deadlineMs} ms and was thawed before the copy was done. Try again when the disk is less busy`,
    );
  }

  #thaw(): void {
    if (this.#stalledMs !== null) return;
    clearTimeout(this.#timer);
    thaw(this.#directory, this.#target);
    this.#stalledMs = performance.now() - this.#startMs;
  }

  #expire(): void {
    if (this.#stalledMs !== null) return;
    this.#isExpired = true;
    this.#thaw();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#thaw();
    await this.#directory.close();
  }
}

/** Writes out once, and once more where the first pass was long; a third one gains nothing against a guest that never stops writing. */
async function syncWhileRunning(directory: FileHandle, target: string): Promise<void> {
  const startMs = performance.now();
  await syncFileSystem(directory, target);
  if (performance.now() - startMs > SHORT_SYNC_MS) await syncFileSystem(directory, target);
}
