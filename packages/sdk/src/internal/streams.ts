import type { Bytes } from "./bytes.ts";

/** Reads a stream to its end into one piece of memory. */
export async function collect(stream: ReadableStream<Bytes>): Promise<Bytes> {
  const chunks: Bytes[] = [];
  let length = 0;
  for await (const chunk of stream) {
    chunks.push(chunk);
    length += chunk.byteLength;
  }
  const first = chunks[0];
  if (first !== undefined && chunks.length === 1) return first;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return whole;
}

/** A stream of what an iterable yields, at the reader's pace. Bun and early Node.js 20 have no `ReadableStream.from`. */
export function streamFrom(blocks: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = blocks[Symbol.asyncIterator]();
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

/** How many copies into a Node stream are under way. */
const copies = new Map<NodeJS.WritableStream, number>();
const ignore = (): void => undefined;

/** Copies a stream into a Node stream at that stream's pace, and leaves the Node stream open. Stops when that one is gone. */
export async function drainInto(stream: ReadableStream<Uint8Array>, target: NodeJS.WritableStream): Promise<void> {
  // An output that was closed at the other end reports it to every write below and must not end the program by its event as well. One
  // listener serves all copies, since Node takes many for a leak.
  const before = copies.get(target) ?? 0;
  copies.set(target, before + 1);
  if (before === 0) target.on("error", ignore);
  try {
    for await (const chunk of stream) {
      const isGone = await new Promise<boolean>((resolve) => {
        target.write(chunk, (error) => resolve(error !== null && error !== undefined));
      });
      if (isGone) break;
    }
  } finally {
    const left = (copies.get(target) ?? 1) - 1;
    if (left === 0) {
      copies.delete(target);
      target.off("error", ignore);
    } else copies.set(target, left);
  }
}
