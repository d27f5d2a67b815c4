import type { StandingTrace, TraceOrder } from "@caisson/linux";

/** A copy of an image, as the thread that makes it is told. Files are named by descriptor: threads of a process share them. */
export interface CopyOrder {
  readonly sourceFd: number;
  /** As large as the source. */
  readonly targetFd: number;
  readonly sizeBytes: number;
  /** The target is a copy of something like the source already: only what differs is copied. */
  readonly isSeeded: boolean;
  /** What is copied, for error messages. */
  readonly detail: string;
  /** Null: nobody writes to the source. */
  readonly live: LiveOrder | null;
  /** `CONTROL` says what stands where. */
  readonly control: SharedArrayBuffer;
}

export interface LiveOrder {
  /** The file system on the source, any directory of it. */
  readonly mountFd: number;
  readonly mountPath: string;
  readonly trace: TraceOrder;
  /** A trace of all that was written since the target was like the source. Null: there is none, and the two are compared. */
  readonly standing: StandingTrace | null;
}

/** Places in `CopyOrder.control`, which both sides see. `hasTrace`: the thread has taken over the standing trace, and ends it. */
export const CONTROL = { state: 0, isCancelled: 1, mayFreeze: 2, hasTrace: 3, LENGTH: 4 } as const;

/**
 * Who thaws is decided by a change of this state, so that it is one of the two sides and never both. What somebody else has frozen is not `frozen`, and
 * neither side thaws it.
 */
export const STATE = { running: 0, frozen: 1, thawed: 2, expired: 3, freezing: 4 } as const;

export interface CopyReport {
  /** How long writers stood still, in milliseconds; 0 where nobody wrote. */
  readonly frozenMs: number;
  /** How many times it was begun: more than once, when events were lost. */
  readonly attempts: number;
  /** How many times the file system was frozen: more than once, when too much had been written meanwhile. */
  readonly freezes: number;
  /** Ranges that were copied again because they had been written to. */
  readonly copiedAgain: number;
}

export type CopyMessage =
  /** The thread waits for `mayFreeze`. */
  | { readonly kind: "freezing" }
  | { readonly kind: "copied"; readonly report: CopyReport; readonly standing: StandingTrace | null }
  | { readonly kind: "failed"; readonly code: string; readonly message: string };
