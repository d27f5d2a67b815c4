import { endStandingTrace, type StandingTrace } from "@caisson/linux";
import type { ImageId } from "../../driver.ts";

/** Each holds a buffer of the kernel of up to 64 MiB. */
const MAX_TRACES = 4;

interface Standing {
  readonly sealed: ImageId;
  readonly trace: StandingTrace;
}

/**
 * Traces of what was written to images since they were last sealed, as far as the kernel's buffer reaches: with the spare of that sealed image, they spare
 * the next seal the comparison. A trace ends before its device does.
 */
export class StandingTraces implements AsyncDisposable {
  /** By source; the oldest first. */
  readonly #bySource = new Map<ImageId, Standing>();
  readonly #ending = new Set<Promise<void>>();
  readonly #onError: (error: unknown) => void;

  constructor({ onError }: { readonly onError: (error: unknown) => void }) {
    this.#onError = onError;
  }

  /** Keeps the trace, which began when `sealed` was taken of `source`. */
  keep(source: ImageId, sealed: ImageId, trace: StandingTrace): void {
    this.end(source);
    this.#bySource.set(source, { sealed, trace });
    const [oldest] = this.#bySource.keys();
    if (this.#bySource.size > MAX_TRACES && oldest !== undefined) this.end(oldest);
  }

  /** The trace of all that was written to `source` since `sealed` was taken, which belongs to the caller then. Null: there is none. */
  take(source: ImageId, sealed: ImageId | null): StandingTrace | null {
    const standing = this.#bySource.get(source);
    if (standing === undefined) return null;
    if (standing.sealed !== sealed) {
      this.end(source);
      return null;
    }
    this.#bySource.delete(source);
    return standing.trace;
  }

  /** Ends the trace of the source, if there is one, without a wait. A failure is reported only: what is left of a trace goes at the next start. */
  end(source: ImageId): void {
    const standing = this.#bySource.get(source);
    if (standing === undefined) return;
    this.#bySource.delete(source);
    const ending = endStandingTrace(standing.trace)
      .catch(this.#onError)
      .finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const source of [...this.#bySource.keys()]) this.end(source);
    await Promise.all(this.#ending);
  }
}
