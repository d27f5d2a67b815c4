import { once } from "node:events";
import { outputFailed } from "../output/standard-outputs.ts";

/**
 * Copies a stream of the sandbox to one of this process's outputs, at the pace of whoever reads that. Returns false when the reader went
 * away before the end, as `head` does. Throws when the output cannot be written for another reason, such as a full disk.
 */
export async function pumpOutput(source: ReadableStream<Uint8Array>, target: NodeJS.WriteStream): Promise<boolean> {
  const gone = new AbortController();
  let failure: NodeJS.ErrnoException | undefined;
  const onGone = (error?: NodeJS.ErrnoException): void => {
    failure ??= error;
    gone.abort();
  };
  target.on("error", onGone).on("close", onGone);
  try {
    for await (const chunk of source) {
      gone.signal.throwIfAborted();
      if (!target.write(chunk)) await once(target, "drain", { signal: gone.signal });
    }
    gone.signal.throwIfAborted();
    return true;
  } catch (error) {
    if (!gone.signal.aborted) throw error;
    if (failure === undefined || failure.code === "EPIPE") return false;
    throw outputFailed(failure);
  } finally {
    // The handler stays until the stream's pending error has been delivered; without one it would end the process.
    setImmediate(() => target.off("error", onGone).off("close", onGone));
  }
}

/** Copies this process's input into the sandbox until it ends, the process there wants no more, or the signal is aborted. */
export async function pumpInput(
  source: NodeJS.ReadStream,
  target: WritableStream<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const writer = target.getWriter();
  const { promise: stopped, resolve } = Promise.withResolvers<void>();
  const stop = (): void => {
    source.destroy();
    resolve();
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    // A write that waits for the sandbox is not waited for when nobody needs it any more.
    await Promise.race([copy(source, writer), stopped]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

async function copy(source: NodeJS.ReadStream, writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
  try {
    for await (const chunk of source) await writer.write(chunk as Buffer);
    await writer.close();
  } catch {
    // The program ended without reading all of its input, or the connection closed, which its status reports.
    await writer.abort().catch(() => undefined);
  }
}
