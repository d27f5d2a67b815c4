/** Runs a job, which does not fail, again and again, never twice at once, until the returned function is called; that resolves when it runs no more. */
export function runEvery(intervalMs: number, run: () => Promise<void>): () => Promise<void> {
  let current: Promise<void> | null = null;
  const timer = setInterval(() => {
    current ??= run().finally(() => {
      current = null;
    });
  }, intervalMs);
  return async () => {
    clearInterval(timer);
    await current;
  };
}
