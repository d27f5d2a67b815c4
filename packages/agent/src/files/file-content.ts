import { abortable } from "../calls/abortable.ts";
import { AppError } from "../calls/errors.ts";

/**
 * The largest file that one answer carries: its base64 stays under the 100 MiB that the official JavaScript client accepts in a message.
 * A larger answer would cost the client its connection.
 */
const READ_LIMIT_BYTES = 72 * 1024 * 1024;

const FIRST_READ_BYTES = 64 * 1024;

/** Reads a whole file, also one whose size is not known beforehand, such as those of proc. */
export async function readContent(path: string, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  using file = await abortable(Deno.open(path, { read: true }), signal, (late) => late.close());
  const { size } = await file.stat();
  if (size > READ_LIMIT_BYTES) throw tooLarge(path);
  // One byte more than the size, so that the end shows without growing the buffer.
  let buffer = new Uint8Array(size > 0 ? size + 1 : FIRST_READ_BYTES);
  let length = 0;
  for (;;) {
    const count = await abortable(file.read(buffer.subarray(length)), signal);
    if (count === null) return buffer.subarray(0, length);
    length += count;
    if (length > READ_LIMIT_BYTES) throw tooLarge(path);
    if (length === buffer.length) buffer = grown(buffer);
  }
}

export interface WriteOptions {
  readonly append: boolean;
  readonly create: boolean;
  readonly createNew: boolean;
  readonly mode: number | undefined;
}

/**
 * Writes a file from bytes or from a stream, of which it holds one chunk at a time. The file keeps what was written when the stream or a
 * write fails; ending the stream then is its owner's part.
 */
export async function writeContent(
  path: string,
  content: Uint8Array | ReadableStream<Uint8Array>,
  { append, create, createNew, mode }: WriteOptions,
  signal: AbortSignal,
): Promise<void> {
  const creation = createNew ? { createNew } : { create };
  const options = { write: true, append, truncate: !append, ...creation, ...(mode === undefined ? {} : { mode }) };
  using file = await abortable(Deno.open(path, options), signal, (late) => late.close());
  // The mode is that of the file afterwards: opening applies it to a new file only, and under the umask.
  if (mode !== undefined) await Deno.chmod(path, mode);
  if (content instanceof Uint8Array) return await writeAll(file, content);
  const reader = content.getReader();
  for (let next = await abortable(reader.read(), signal); !next.done; next = await abortable(reader.read(), signal)) {
    await writeAll(file, next.value);
  }
}

/** Writes all bytes, however many calls that takes. */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length; ) written += await file.write(bytes.subarray(written));
}

function grown(buffer: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(buffer.length * 2);
  larger.set(buffer);
  return larger;
}

function tooLarge(path: string): AppError {
  const limit = `${READ_LIMIT_BYTES / 1024 / 1024} MiB`;
  return new AppError(
    "Error",
    `Cannot read ${JSON.stringify(path)} in one answer: it has more than ${limit}. Open it and read it in parts`,
    "EFBIG",
  );
}
