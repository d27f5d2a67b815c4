const ENDING: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** Waits for a signal that asks this process to end, and returns it; or for `other`, and returns `null`. */
export async function untilInterrupted(other: Promise<unknown>): Promise<NodeJS.Signals | null> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  for (const signal of ENDING) process.on(signal, resolve);
  try {
    return await Promise.race([promise, other.then(() => null)]);
  } finally {
    for (const signal of ENDING) process.off(signal, resolve);
  }
}

/** Runs an action with a signal that is aborted when this process is asked to end. A second such request ends it at once. */
export async function withInterrupt<T>(action: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const listener = (signal: NodeJS.Signals): void => controller.abort(new InterruptedError(signal));
  for (const signal of ENDING) process.once(signal, listener);
  try {
    return await action(controller.signal);
  } finally {
    for (const signal of ENDING) process.off(signal, listener);
  }
}

/** This process was asked to end by a signal. */
export class InterruptedError extends Error {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`Interrupted by ${signal}`);
    this.name = "InterruptedError";
    this.signal = signal;
  }
}
