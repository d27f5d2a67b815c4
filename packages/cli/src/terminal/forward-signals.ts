import type { ChildProcess, Signal } from "@caisson/sdk";
import { InterruptedError } from "./until-interrupted.ts";

/** Signals that ask a program to end. */
const ORDERS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];
const FORWARDED: readonly (Signal & NodeJS.Signals)[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"];
/** How long output may still arrive from a program that was asked to end and did. */
const LAST_OUTPUT_MS = 1_000;

export interface ForwardedSignals extends Disposable {
  /**
   * Settles when there is nothing to wait for any longer although output is still open: with the program's exit code when it ended as it
   * was asked to, with {@linkcode InterruptedError} when this process has to end at once.
   */
  readonly over: Promise<number>;
}

/**
 * Passes signals on to a program in a sandbox. The first order to end is the program's: it decides what that means. The second one kills
 * it and ends this process, and so does the first when the program has ended and only its output is open, because another program in
 * the background holds it.
 */
export function forwardSignals(starting: Promise<ChildProcess>): ForwardedSignals {
  const { promise: over, resolve, reject } = Promise.withResolvers<number>();
  over.catch(() => undefined);
  let isAsked = false;
  let exitCode: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const endSoon = (): void => {
    if (isAsked && exitCode !== undefined) timer = setTimeout(resolve, LAST_OUTPUT_MS, exitCode);
  };
  const onEnd = starting.then(async (child) => {
    exitCode = (await child.status).code;
    endSoon();
  });
  // Who waits for the program hears of a failure.
  onEnd.catch(() => undefined);

  const send = (signal: Signal): void => {
    // A connection that is gone cannot carry the signal; the program's status reports that.
    starting.then((child) => child.kill(signal)).catch(() => undefined);
  };
  const listener = (signal: NodeJS.Signals): void => {
    const isOrder = ORDERS.includes(signal);
    if (isOrder && (isAsked || exitCode !== undefined)) {
      send("SIGKILL");
      reject(new InterruptedError(signal));
      return;
    }
    isAsked ||= isOrder;
    send(signal as Signal);
  };
  for (const signal of FORWARDED) process.on(signal, listener);
  return {
    over,
    [Symbol.dispose]() {
      clearTimeout(timer);
      for (const signal of FORWARDED) process.off(signal, listener);
    },
  };
}
