/** Base and cap of the pause between attempts, in milliseconds. */
const BASE_MS = 100;
const CAP_MS = 5_000;

/** Answers that say "not now" rather than "no". */
const RETRYABLE_STATUSES: ReadonlySet<number> = new Set([408, 502, 503, 504]);

/**
 * True when repeating the same request may get another answer. A 429 is one only with `Retry-After`: the limit on running sandboxes
 * does not go away by asking again.
 */
export function isRetryableStatus(status: number, headers: Headers): boolean {
  return RETRYABLE_STATUSES.has(status) || (status === 429 && headers.has("retry-after"));
}

/**
 * How long to pause before attempt number `attempt` (from 1): a random part of an exponentially growing span, so that clients that
 * failed together do not come back together; never less than what the server asked for in `Retry-After`.
 */
export function retryDelayMs(attempt: number, retryAfter: string | null, random: () => number = Math.random): number {
  const span = Math.min(CAP_MS, BASE_MS * 2 ** (attempt - 1));
  const jittered = span / 2 + (random() * span) / 2;
  const seconds = retryAfter === null ? 0 : Number(retryAfter);
  return Number.isFinite(seconds) && seconds > 0 ? Math.max(jittered, Math.min(seconds * 1000, 60_000)) : jittered;
}

/** Waits. Rejects with the signal's reason as soon as it is aborted. */
export function sleep(durationMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, durationMs);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
