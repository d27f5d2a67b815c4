/** Reads the first `length` bytes, fewer where there are no more, and gives back all, those included. `all` must be ended, also when it is not read. */
export async function peek(
  pieces: AsyncIterable<Uint8Array>,
  length: number,
): Promise<{ readonly beginning: Buffer; readonly all: AsyncGenerator<Uint8Array, void> }> {
  const iterator = pieces[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let count = 0;
  while (count < length) {
    const next = await iterator.next();
    if (next.done === true) break;
    first.push(next.value);
    count += next.value.length;
  }
  const all = (async function* (): AsyncGenerator<Uint8Array, void> {
    try {
      yield* first;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  })();
  return { beginning: Buffer.concat(first).subarray(0, length), all };
}
