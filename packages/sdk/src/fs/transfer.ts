import { isAbsolute, posix, relative, sep } from "node:path";
import type { TransferOptions } from "./options.ts";

/** How many files travel at a time. */
const PARALLEL_FILES = 8;

/** Counts what was transferred and tells the caller. */
export class TransferCounter {
  readonly #options: TransferOptions;
  #transferredBytes = 0;
  #completedFiles = 0;

  constructor(options: TransferOptions) {
    this.#options = options;
  }

  addBytes(path: string, bytes: number): void {
    this.#transferredBytes += bytes;
    this.#report(path);
  }

  addFile(path: string): void {
    this.#completedFiles += 1;
    this.#report(path);
  }

  #report(path: string): void {
    const { onProgress } = this.#options;
    onProgress?.({ path, transferredBytes: this.#transferredBytes, completedFiles: this.#completedFiles });
  }
}

/** Runs a job for each item, a few at a time. After the first failure no more are begun, and it is thrown when the others are done. */
export async function forEachInParallel<T>(
  items: AsyncIterable<T> | Iterable<T>,
  signal: AbortSignal | undefined,
  job: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const failures: unknown[] = [];
  try {
    for await (const item of items) {
      signal?.throwIfAborted();
      const task: Promise<void> = job(item)
        .catch((error) => void failures.push(error))
        .finally(() => running.delete(task));
      running.add(task);
      if (running.size >= PARALLEL_FILES) await Promise.race(running);
      if (failures.length > 0) break;
    }
  } finally {
    await Promise.all(running);
  }
  if (failures.length > 0) throw failures[0];
}

/**
 * The text for the copy of a link. Relative links are copied as they are. An absolute one that leads into the copied tree is made
 * relative, so that it leads into the copy.
 */
export function linkText(text: string, linkPath: string, root: string): string {
  if (!isAbsolute(text) || !isInside(text, root)) return text;
  return relative(posix.dirname(linkPath), text).split(sep).join("/") || ".";
}

/** True when the path is the root or lies below it. Both must be absolute. */
export function isInside(path: string, root: string): boolean {
  const below = relative(root, path);
  return below === "" || !(below === ".." || below.startsWith(`..${sep}`) || isAbsolute(below));
}
