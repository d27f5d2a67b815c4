/**
 * Waits for a result, or rejects with the signal's reason as soon as it is aborted. A result that comes later is given to `undo`, so that
 * nothing is left of what nobody will hear of.
 */
export function orAbort<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  undo: (late: T) => void = () => undefined,
): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      work.then(undo, () => undefined);
      reject(signal.reason);
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    const settle = (): void => signal.removeEventListener("abort", abort);
    work.then(
      (value) => {
        settle();
        if (!signal.aborted) resolve(value);
      },
      (error) => {
        settle();
        reject(error);
      },
    );
  });
}
