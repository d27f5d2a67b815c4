/** Exit codes of the command line (protocol.md section 8). `exec` and `create` with a command end with that command's code instead. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  authentication: 3,
  notFound: 4,
  conflict: 5,
  backend: 6,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];
