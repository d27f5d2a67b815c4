import { abortError } from "../calls/errors.ts";
import { startTimer } from "../host/timers.ts";

const FIRST_DELAY_MS = 1;
const LONGEST_DELAY_MS = 20;

/**
 * Waits for an advisory lock. The kernel's waiting form would hold one of the runtime's few threads for file calls; enough waiters would
 * then keep everybody from unlocking. So the lock is tried again and again, at most 20 ms apart, until the signal aborts.
 */
export async function acquireLock(file: Deno.FsFile, exclusive: boolean, signal: AbortSignal): Promise<void> {
  for (
    let delayMs = FIRST_DELAY_MS;
    !(await file.tryLock(exclusive));
    delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS)
  ) {
    await delay(delayMs, signal);
  }
}

function delay(durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(abortError());
    const onAbort = () => {
      cancel();
      reject(abortError());
    };
    const cancel = startTimer(durationMs, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
