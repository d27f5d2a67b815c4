const NEWLINE = 0x0a;

/** Reads a stream up to its first line end, and returns that line and a stream of everything behind it. */
export async function splitFirstLine(
  source: ReadableStream<Uint8Array>,
): Promise<{ readonly line: string; readonly rest: ReadableStream<Uint8Array> }> {
  const reader = source.getReader();
  let head = Buffer.alloc(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (value !== undefined) head = Buffer.concat([head, value]);
    const end = head.indexOf(NEWLINE);
    if (end < 0 && !done) continue;
    const line = head
      .subarray(0, end < 0 ? head.length : end)
      .toString()
      .trimEnd();
    const remainder = end < 0 ? Buffer.alloc(0) : head.subarray(end + 1);
    reader.releaseLock();
    return { line, rest: concat(remainder, source) };
  }
}

function concat(first: Uint8Array, rest: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  return ReadableStream.from(
    (async function* () {
      if (first.byteLength > 0) yield first;
      yield* rest;
    })(),
  );
}
