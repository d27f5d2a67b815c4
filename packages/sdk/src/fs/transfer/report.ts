import process from "node:process";
import type { SkippedFile, SkipReason, TransferOptions } from "../options.ts";

const REASONS: Readonly<Record<SkipReason, string>> = {
  pipe: "it is a named pipe",
  socket: "it is a socket",
  device: "it is a device",
  name: "its name is not UTF-8",
  unreadable: "reading it is not permitted",
  gone: "it vanished during the copy",
};

/** Counts what was transferred and tells the caller, and what was left out and why. */
export class TransferReport {
  readonly #options: TransferOptions;
  readonly #unheard: SkippedFile[] = [];
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

  skip(path: string, reason: SkipReason): void {
    const skipped = { path, reason, message: `Skipped ${JSON.stringify(path)}: ${REASONS[reason]}` };
    if (this.#options.onSkip === undefined) this.#unheard.push(skipped);
    else this.#options.onSkip(skipped);
  }

  /** What was left out is never passed over in silence: a caller that did not ask to hear of it gets one warning of the process. */
  finish(): void {
    const [first] = this.#unheard;
    if (first === undefined) return;
    const more = this.#unheard.length === 1 ? "" : ` (and ${this.#unheard.length - 1} more)`;
    process.emitWarning(`${first.message}${more}. Pass onSkip to handle this`, { type: "CaissonWarning" });
  }

  #report(path: string): void {
    const { onProgress } = this.#options;
    onProgress?.({ path, transferredBytes: this.#transferredBytes, completedFiles: this.#completedFiles });
  }
}
