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
] as const;

export type StopReason = (typeof STOP_REASONS)[number];
