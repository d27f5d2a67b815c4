/** Works on up to `width` items at a time, and yields the results in the order of the items. Nothing is under way when it ends. */
export async function* mapInOrder<T, R>(
  items: AsyncIterable<T>,
  width: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R, void> {
  const pending: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const result = work(item);
      // It is awaited in its turn; until then a failure is not unhandled.
      result.catch(() => undefined);
      pending.push(result);
      if (pending.length < width) continue;
      const first = await pending[0];
      pending.shift();
      yield first as R;
    }
    for (const result of pending) yield await result;
  } finally {
    await Promise.allSettled(pending);
  }
}
