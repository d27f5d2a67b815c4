/**
 * Timers on `Atomics.waitAsync`. Deno loads what stands behind `setTimeout` on first use, which takes 5 to 10 ms (measured) in the middle of
 * a sandbox's first command; the engine's own timed wait is there from the start.
 */

/** Calls back once after `delayMs`, unless the returned function was called before. */
export function startTimer(delayMs: number, callback: () => void): () => void {
  const cell = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  let isCancelled = false;
  // The cell never changes, so the wait always begins, and is over when the time is or when it is woken.
  const { value } = Atomics.waitAsync(cell, 0, 0, delayMs);
  void Promise.resolve(value).then(() => {
    if (!isCancelled) callback();
  });
  return () => {
    isCancelled = true;
    Atomics.notify(cell, 0);
  };
}

/** Resolves after `delayMs`. */
export function delay(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    startTimer(delayMs, resolve);
  });
}

/** Calls back every `intervalMs` until the returned function was called. */
export function startInterval(intervalMs: number, callback: () => void): () => void {
  const run = () => {
    cancel = startTimer(intervalMs, run);
    callback();
  };
  let cancel = startTimer(intervalMs, run);
  return () => cancel();
}
