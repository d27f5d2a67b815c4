import { constants } from "node:os";

/** Exit codes of the command line (protocol.md section 8). Commands that run a program end with that program's code instead. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  authentication: 3,
  notFound: 4,
  conflict: 5,
  backend: 6,
  /** Of `exec`, and of `create` with a command, so that their failures are told from those of the program; as Docker does. */
  notRun: 125,
  cannotRun: 126,
  programNotFound: 127,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The exit code that shells show for a program that a signal ended. */
export function exitCodeOfSignal(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}
