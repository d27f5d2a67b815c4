/**
 * Like `Promise.all`, but it does not answer while anything is still under way, so that what succeeded can be undone without a race. One
 * failure is thrown as it is, and of several with one and the same code the first, so that callers who know what to do about that code do it; others as
 * an `AggregateError`.
 */
export async function settleAll<T extends readonly unknown[]>(
  work: { readonly [K in keyof T]: Promise<T[K]> },
): Promise<T> {
  const promises: readonly Promise<unknown>[] = work;
  const results = await Promise.allSettled(promises);
  const failures = results.filter((result) => result.status === "rejected").map((result) => result.reason as unknown);
  const codes = new Set(failures.map(codeOf));
  if (failures.length === 1 || (codes.size === 1 && !codes.has(null))) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join("; "));
  return (await Promise.all(promises)) as unknown as T;
}

function codeOf(failure: unknown): string | null {
  return failure instanceof Error && "code" in failure && typeof failure.code === "string" ? failure.code : null;
}
