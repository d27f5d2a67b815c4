import type { ChildProcess, Signal } from "@caisson/sdk";

const FORWARDED: readonly (Signal & NodeJS.Signals)[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"];
/** So many interrupts in a row end the wait for a program that ignores them. */
const PATIENCE = 3;

/** Passes signals on to a program in a sandbox while it runs. `detached` resolves when the person does not want to wait any longer. */
export function forwardSignals(child: ChildProcess): Disposable & { readonly detached: Promise<void> } {
  const { promise: detached, resolve: detach } = Promise.withResolvers<void>();
  let interrupts = 0;
  const listener = (signal: NodeJS.Signals): void => {
    if (signal === "SIGINT" && ++interrupts >= PATIENCE) detach();
    // A connection that is gone cannot carry the signal; the program's status reports that.
    child.kill(signal as Signal).catch(() => undefined);
  };
  for (const signal of FORWARDED) process.on(signal, listener);
  return {
    detached,
    [Symbol.dispose]() {
      for (const signal of FORWARDED) process.off(signal, listener);
    },
  };
}
