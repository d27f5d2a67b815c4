import { abortError } from "./errors.ts";

/**
 * Rejects as soon as the signal aborts, although the operation itself goes on, as a call to the kernel does. A result that comes after
 * that goes to `discard`.
 */
export async function abortable<T>(
  operation: Promise<T>,
  signal: AbortSignal,
  discard?: (late: T) => void,
): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(abortError());
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([aborted, operation]);
  } catch (error) {
    operation.then(discard, () => undefined);
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
