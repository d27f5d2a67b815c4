import { setTimeout as delay } from "node:timers/promises";
import { testTimeoutMs } from "@caisson/linux/testing";

/** Asks until the answer is neither null nor undefined, and fails after the deadline. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | null | undefined> | T | null | undefined,
  deadlineMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + testTimeoutMs(deadlineMs);
  for (;;) {
    const answer = await ask();
    if (answer !== null && answer !== undefined) return answer;
    if (Date.now() > deadline) throw new Error(`Waited ${deadlineMs} ms in vain for: ${what}`);
    await delay(10);
  }
}

/** Tries until one try succeeds. After the deadline it fails, with the last failure as the cause. */
export async function untilSuccess<T extends object>(
  what: string,
  attempt: () => Promise<T>,
  deadlineMs?: number,
): Promise<T> {
  let last: unknown;
  const ask = () =>
    attempt().catch((error: unknown) => {
      last = error;
      return null;
    });
  try {
    return await eventually<T>(what, ask, deadlineMs);
  } catch (error) {
    throw new Error(`${(error as Error).message}. Its last failure: ${String(last)}`, { cause: last });
  }
}

/** Fails when the work takes longer than the deadline, whatever it would come to. */
export async function within<T>(deadlineMs: number, what: string, work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`${what} took longer than ${deadlineMs} ms`)),
    testTimeoutMs(deadlineMs),
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
