import { once } from "node:events";

/**
 * Copies a stream of the sandbox to one of this process's outputs, at the pace of whoever reads that. Returns false when the reader went
 * away before the end, as `head` does.
 */
export async function pumpOutput(source: ReadableStream<Uint8Array>, target: NodeJS.WriteStream): Promise<boolean> {
  const gone = new AbortController();
  const onGone = (): void => gone.abort();
  target.on("error", onGone).on("close", onGone);
  try {
    for await (const chunk of source) {
      if (gone.signal.aborted) return false;
      if (!target.write(chunk)) await once(target, "drain", { signal: gone.signal });
    }
    return !gone.signal.aborted;
  } catch (error) {
    if (gone.signal.aborted) return false;
    throw error;
  } finally {
    // The handler stays until the stream's pending error has been delivered; without one it would end the process.
    setImmediate(() => target.off("error", onGone).off("close", onGone));
  }
}

/** Copies this process's input into the sandbox until it ends, or the process there wants no more. */
export async function pumpInput(source: NodeJS.ReadStream, target: WritableStream<Uint8Array>): Promise<void> {
  const writer = target.getWriter();
  try {
    for await (const chunk of source) await writer.write(chunk as Buffer);
    await writer.close();
  } catch {
    // The program ended without reading all of its input, or the connection closed, which its status reports.
    await writer.abort().catch(() => undefined);
  } finally {
    writer.releaseLock();
  }
}
