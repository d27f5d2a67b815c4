import { type HeldStream, ONE_READ_BYTES } from "../wire/held-stream.ts";

const READ_BYTES = 64 * 1024;

/**
 * Sends what a process writes until the end of its pipe, which children that it left behind may hold open (protocol.md 9.B 9). When the
 * client cancelled the stream or is gone, the rest is read and dropped, so that the process never waits for nobody. Never rejects.
 */
export async function pumpOutput(pipe: ReadableStream<Uint8Array<ArrayBuffer>>, held: HeldStream): Promise<void> {
  const reader = pipe.getReader({ mode: "byob" });
  // One buffer goes back and forth between the pipe and the sender, whatever the amount of output.
  let totalBytes = 0;
  let buffer = new Uint8Array(READ_BYTES);
  try {
    for (;;) {
      const { value, done } = await reader.read(buffer);
      if (done || value === undefined) break;
      totalBytes += value.length;
      await held.writeBytes(value);
      buffer = new Uint8Array(value.buffer);
    }
  } catch (error) {
    console.error("Reading a process's output failed:", error);
  }
  // Python ignores stream errors and would wait for ever, so output always ends with `end` (protocol.md 3.5 point 4).
  if (totalBytes > ONE_READ_BYTES) await held.endApart();
  else held.end();
}
