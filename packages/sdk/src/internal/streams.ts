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

/** Copies a stream into a Node stream at that stream's pace, and leaves the Node stream open. Stops when that one is gone. */
export async function drainInto(stream: ReadableStream<Uint8Array>, target: NodeJS.WritableStream): Promise<void> {
  let isGone = false;
  let release: () => void = () => undefined;
  const onDrain = (): void => release();
  const onGone = (): void => {
    isGone = true;
    release();
  };
  target.on("drain", onDrain).on("error", onGone).on("close", onGone);
  try {
    for await (const chunk of stream) {
      if (isGone) break;
      if (target.write(chunk)) continue;
      await new Promise<void>((resolve) => {
        release = resolve;
      });
    }
  } finally {
    target.off("drain", onDrain).off("error", onGone).off("close", onGone);
  }
}
