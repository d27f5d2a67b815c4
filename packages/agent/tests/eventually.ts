import { setTimeout as delay } from "node:timers/promises";

const DEADLINE_MS = 30_000;
const INTERVAL_MS = 5;

/** Waits until a condition holds. Throws with `what` when it does not in time. */
export async function eventually(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Waited ${DEADLINE_MS} ms: ${what}`);
    await delay(INTERVAL_MS);
  }
}
