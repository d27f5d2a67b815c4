/**
 * Like `Promise.all`, but it does not answer while anything is still under way, so that what succeeded can be undone without a race. One
 * failure is thrown as it is, several as an `AggregateError`.
 */
export async function settleAll<T extends readonly unknown[]>(
  work: { readonly [K in keyof T]: Promise<T[K]> },
): Promise<T> {
  const promises: readonly Promise<unknown>[] = work;
  const results = await Promise.allSettled(promises);
  const failures = results.filter((result) => result.status === "rejected").map((result) => result.reason as unknown);
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join("; "));
  return (await Promise.all(promises)) as unknown as T;
}
