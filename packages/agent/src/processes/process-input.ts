/**
 * Feeds a process what the client sends, no faster than it reads. Its input ends when the stream ends, fails or the client goes. When the
 * process stops reading, or `exited` says that it is gone, the client is told to stop. Never rejects.
 */
export async function pumpInput(
  source: ReadableStream<Uint8Array<ArrayBuffer>>,
  sink: WritableStream<Uint8Array<ArrayBuffer>>,
  exited: Promise<unknown>,
): Promise<void> {
  const reader = source.getReader();
  const writer = sink.getWriter();
  // Not by a signal to a pipe: a write may hang for as long as children of the process keep its input open, and the client must know now.
  void exited.then(() => stop(reader));
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) await writer.write(read.value);
  } catch {
    // A broken pipe, or a client that failed or went: either ends the input, and nobody waits to hear why.
    await stop(reader);
  }
  try {
    await writer.close();
  } catch {
    // Broken already, because nothing reads it any more.
  }
}

/** Tells the client to stop. A stream that failed refuses with its own error, which the reading side has seen. */
async function stop(reader: ReadableStreamDefaultReader): Promise<void> {
  await reader.cancel().catch(() => {});
}
