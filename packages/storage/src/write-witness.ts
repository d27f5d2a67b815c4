import { type FileHandle, open } from "node:fs/promises";
import { readExt4Attribute, syncFileSystem } from "@caisson/linux";

/**
 * Sees what goes wrong with a mounted file system from its mount to its unmount. The kernel tells an error of writing back once to each
 * descriptor that was open when it happened; a descriptor of its own, opened with the mount, misses none, whatever programs inside were told.
 */
export class WriteWitness {
  readonly #device: string;
  readonly #target: string;
  readonly #earlierErrors: number;
  #directory: FileHandle | null;
  #failure: unknown = null;

  private constructor(device: string, target: string, directory: FileHandle, earlierErrors: number) {
    this.#device = device;
    this.#target = target;
    this.#directory = directory;
    this.#earlierErrors = earlierErrors;
  }

  /** Begins to watch the file system that was just mounted at `target` from `device`. */
  static async open(device: string, target: string): Promise<WriteWitness> {
    return new WriteWitness(device, target, await open(target, "r"), await countErrors(device));
  }

  /** What the file system has reported about itself by now, such as a broken journal; null: nothing. Writes nothing and never throws. */
  async findError(): Promise<string | null> {
    const count = (await countErrors(this.#device)) - this.#earlierErrors;
    return count > 0 ? `the file system found ${count} error${count === 1 ? "" : "s"} in itself` : null;
  }

  /**
   * Puts everything on stable storage and closes, so that the file system can be unmounted. Resolves to what failed now or since the mount, or
   * null. Again does the same for what was written meanwhile.
   */
  async settle(): Promise<unknown> {
    const directory = this.#directory ?? (await open(this.#target, "r"));
    this.#directory = null;
    try {
      await syncFileSystem(directory, this.#target);
      this.#failure ??= await this.findError();
    } catch (error) {
      this.#failure ??= error;
    } finally {
      await directory.close();
    }
    return this.#failure;
  }

  /** Closes without a look. Again is success. */
  async close(): Promise<void> {
    await this.#directory?.close();
    this.#directory = null;
  }
}

async function countErrors(device: string): Promise<number> {
  return (await readExt4Attribute(device, "errors_count").catch(() => null)) ?? 0;
}
