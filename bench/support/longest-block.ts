/** How long `work` took, and the longest time meanwhile in which nothing else ran on this thread, in milliseconds. */
export async function longestBlock(
  work: () => Promise<unknown>,
): Promise<{ readonly blockedMs: number; readonly totalMs: number }> {
  const begunMs = performance.now();
  let [blockedMs, seenMs, isDone] = [0, begunMs, false];
  const look = (): void => {
    const nowMs = performance.now();
    blockedMs = Math.max(blockedMs, nowMs - seenMs);
    seenMs = nowMs;
    if (!isDone) setImmediate(look);
  };
  setImmediate(look);
  await work();
  isDone = true;
  look();
  return { blockedMs, totalMs: performance.now() - begunMs };
}
