import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { testTimeoutMs } from "./test-timeout.ts";

const END_TIMEOUT_MS = 300_000;

/**
 * Ends a program by a signal, also one that stands still, and waits for it; resolves to its exit code. Kills one that has not ended in time, and rejects
 * then: a test that waited for it would never end.
 */
export async function endChild(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const ended = once(child, "exit");
  child.kill(signal);
  // A program that was stopped takes the signal when it goes on.
  child.kill("SIGCONT");
  let isLate = false;
  const timeoutMs = testTimeoutMs(END_TIMEOUT_MS);
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  try {
    await ended;
  } finally {
    clearTimeout(timer);
  }
  if (isLate) throw new Error(`${child.spawnargs.join(" ")} had not ended ${timeoutMs} ms after ${signal}`);
  return child.exitCode;
}
