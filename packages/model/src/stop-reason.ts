/** Why a sandbox ended; recorded on its row. */
export const STOP_REASONS = [
  /** Somebody ended it. */
  "killed",
  /** Its time was up. */
  "timeout",
  /** A session's creator left. */
  "primary-left",
  /** Its first process ended by itself. */
  "exited",
  "out-of-memory",
  "start-failed",
  /** Its creator left before it got an answer. */
  "cancelled",
  "server-stopped",
  "server-restart",
  /** The node that ran it started again, or had it no more. */
  "node-lost",
] as const;

export type StopReason = (typeof STOP_REASONS)[number];

export function isStopReason(text: string | null): text is StopReason {
  return STOP_REASONS.some((reason) => reason === text);
}
