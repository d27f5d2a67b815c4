import { AppError } from "../calls/errors.ts";

/** The signals of Linux by name (signal(7)). */
const SIGNALS: readonly Deno.Signal[] = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGILL",
  "SIGTRAP",
  "SIGABRT",
  "SIGBUS",
  "SIGFPE",
  "SIGKILL",
  "SIGUSR1",
  "SIGSEGV",
  "SIGUSR2",
  "SIGPIPE",
  "SIGALRM",
  "SIGTERM",
  "SIGSTKFLT",
  "SIGCHLD",
  "SIGCONT",
  "SIGSTOP",
  "SIGTSTP",
  "SIGTTIN",
  "SIGTTOU",
  "SIGURG",
  "SIGXCPU",
  "SIGXFSZ",
  "SIGVTALRM",
  "SIGPROF",
  "SIGWINCH",
  "SIGIO",
  "SIGPWR",
  "SIGSYS",
];

/** Other names of the same signals. */
const ALIASES: Readonly<Record<string, Deno.Signal>> = { SIGPOLL: "SIGIO", SIGIOT: "SIGABRT", SIGCLD: "SIGCHLD" };

/** Signals that end a process go to its whole group, so that its output streams end too (protocol.md 9.B 6). */
const TERMINATING: ReadonlySet<Deno.Signal> = new Set(["SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGHUP"]);

/** Reads a signal's name. Throws a `TypeError` without `ENOENT`, which clients would take for an ended process. */
export function requireSignal(name: string): Deno.Signal {
  const signal = ALIASES[name] ?? SIGNALS.find((known) => known === name);
  if (signal !== undefined) return signal;
  throw new AppError("TypeError", `Invalid signal ${JSON.stringify(name.slice(0, 32))}: give a name such as "SIGTERM"`);
}

export function goesToGroup(signal: Deno.Signal): boolean {
  return TERMINATING.has(signal);
}

/** An exit code above this is a signal's number on top of it, as shells count. */
export const SIGNAL_CODE_BASE = 128;
const FIRST_REAL_TIME_SIGNAL = 34;

/** `SIGRTMIN`, `SIGRTMIN+1` and so on. */
export function realTimeSignalName(number: number): string {
  return number === FIRST_REAL_TIME_SIGNAL ? "SIGRTMIN" : `SIGRTMIN+${number - FIRST_REAL_TIME_SIGNAL}`;
}
