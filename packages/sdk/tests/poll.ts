import { setTimeout as sleep } from "node:timers/promises";

/** Waits until the condition holds, at most half a minute. */
export async function poll(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Gave up waiting until ${what}`);
    await sleep(5);
  }
}
