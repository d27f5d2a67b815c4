import { formatSize } from "@caisson/model";
import type { TransferProgress } from "@caisson/sdk";
import type { SingleBar } from "cli-progress";
import { formatSpan } from "../output/format.ts";
import { createProgressBar } from "../output/progress-bar.ts";

/** Transfers that are over sooner need no display. */
const SHOW_AFTER_MS = 400;

interface Payload {
  readonly startedAt: number;
  readonly hasTotal: boolean;
}

/** Adds up the progress of transfers one after another, and shows it on a terminal once they take a while. */
export class CopyProgress implements Disposable {
  readonly #startedAt = performance.now();
  readonly #bar: SingleBar | null;
  readonly #totalBytes: number | null;
  #timer: NodeJS.Timeout | null = null;
  #earlierBytes = 0;
  #earlierFiles = 0;
  #current: TransferProgress = { path: "", transferredBytes: 0, completedFiles: 0 };

  constructor(totalBytes: number | null, isShown: boolean) {
    this.#totalBytes = totalBytes;
    this.#bar = isShown ? createBar() : null;
    if (this.#bar !== null) this.#timer = setTimeout(() => this.#show(), SHOW_AFTER_MS).unref();
  }

  get bytes(): number {
    return this.#earlierBytes + this.#current.transferredBytes;
  }

  get files(): number {
    return this.#earlierFiles + this.#current.completedFiles;
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedAt;
  }

  readonly report = (progress: TransferProgress): void => {
    this.#current = progress;
    if (this.#bar?.isActive) this.#bar.update(this.bytes, { path: progress.path });
  };

  /** The next report counts from zero again. */
  next(): void {
    this.#earlierBytes = this.bytes;
    this.#earlierFiles = this.files;
    this.#current = { path: "", transferredBytes: 0, completedFiles: 0 };
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#bar?.stop();
  }

  #show(): void {
    this.#bar?.start(this.#totalBytes ?? 0, this.bytes, {
      startedAt: this.#startedAt,
      hasTotal: this.#totalBytes !== null,
    });
  }
}

function createBar(): SingleBar {
  return createProgressBar<Payload>((bar, { value, total, fraction }, { startedAt, hasTotal }) => {
    const elapsedMs = performance.now() - startedAt;
    const rate = `${formatSize(Math.round((value / elapsedMs) * 1000))}/s`;
    if (!hasTotal) return `${formatSize(value)}  ${rate}`;
    const left = value === 0 ? "" : `  ${formatSpan(((total - value) * elapsedMs) / value)} left`;
    return `${bar} ${Math.floor(fraction * 100)}%  ${formatSize(value)} of ${formatSize(total)}  ${rate}${left}`;
  });
}
