import { abortable } from "../calls/abortable.ts";
import { AppError } from "../calls/errors.ts";
import { requireLive, type StreamedText } from "../calls/streamed-text.ts";
import { reachOrCreate } from "./names/reach.ts";
import { requireOpenable, requireOpenableIfThere } from "./openable.ts";

/**
 * The largest file that one answer carries: its base64 stays under the 100 MiB that the official JavaScript client accepts in a message.
 * A larger answer would cost the client its connection.
 */
const READ_LIMIT_BYTES = 72 * 1024 * 1024;
/** Files up to this size are read as a whole before they are sent. */
const SMALL_BYTES = 64 * 1024;
/** What is read of a larger one at a time. A multiple of three, so that the base64 of each piece stands alone. */
const PIECE_BYTES = 192 * 1024;

const encoder = new TextEncoder();

/** How bytes become the text of an answer. `isLast` says that nothing follows. */
type ToText = (bytes: Uint8Array<ArrayBuffer>, isLast: boolean) => string;

/** Reads a whole file, also one whose size is not known beforehand, such as those of proc. A large one is read while it is sent. */
export async function readContent(
  path: string,
  encoding: "base64" | "utf-8",
  signal: AbortSignal,
): Promise<string | StreamedText> {
  const { size } = await abortable(requireOpenable(path), signal);
  if (size > READ_LIMIT_BYTES) throw tooLarge(path);
  const file = await abortable(Deno.open(path, { read: true }), signal, (late) => late.close());
  let isStreamed = false;
  try {
    // One byte more than the size, so that the end shows without growing the buffer.
    const buffer = new Uint8Array(size > 0 && size < SMALL_BYTES ? size + 1 : PIECE_BYTES);
    const length = await fill(file, buffer, 0, signal);
    const toText = encoding === "base64" ? toBase64 : utf8Decoder();
    if (length < buffer.length) return toText(buffer.subarray(0, length), true);
    isStreamed = true;
    return new FileText(file, path, buffer, Math.max(size, length), toText, signal);
  } finally {
    if (!isStreamed) file.close();
  }
}

const toBase64: ToText = (bytes) => bytes.toBase64();

/** The byte order mark is content, and invalid sequences are replaced (protocol.md 9.B 10). */
function utf8Decoder(): ToText {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return (bytes, isLast) => decoder.decode(bytes, { stream: !isLast });
}

/** The content of an open file as text that is read while it is sent, so that however many are asked for, few are in memory. */
class FileText implements StreamedText {
  readonly expectedBytes: number;
  readonly #file: Deno.FsFile;
  readonly #path: string;
  readonly #first: Uint8Array<ArrayBuffer>;
  readonly #toText: ToText;
  readonly #signal: AbortSignal;

  constructor(
    file: Deno.FsFile,
    path: string,
    first: Uint8Array<ArrayBuffer>,
    size: number,
    toText: ToText,
    signal: AbortSignal,
  ) {
    this.#file = file;
    this.#path = path;
    this.#first = first;
    this.#toText = toText;
    this.#signal = signal;
    this.expectedBytes = toText === toBase64 ? Math.ceil(size / 3) * 4 : size;
  }

  async *pieces(): AsyncGenerator<Uint8Array> {
    const buffer = new Uint8Array(PIECE_BYTES);
    buffer.set(this.#first);
    let length = await fill(this.#file, buffer, this.#first.length, this.#signal);
    for (let total = length; ; total += length) {
      if (total > READ_LIMIT_BYTES) throw tooLarge(this.#path);
      const isLast = length < buffer.length;
      yield encoder.encode(JSON.stringify(this.#toText(buffer.subarray(0, length), isLast)).slice(1, -1));
      requireLive(this.#signal);
      if (isLast) return;
      length = await fill(this.#file, buffer, 0, this.#signal);
    }
  }

  close(): void {
    this.#file.close();
  }
}

/** Reads until the buffer is full or the file ends, and returns how much of the buffer is used. */
async function fill(
  file: Deno.FsFile,
  buffer: Uint8Array<ArrayBuffer>,
  used: number,
  signal: AbortSignal,
): Promise<number> {
  let length = used;
  while (length < buffer.length) {
    const count = await abortable(file.read(buffer.subarray(length)), signal);
    if (count === null) break;
    length += count;
  }
  return length;
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
  content: Uint8Array | AsyncIterable<Uint8Array>,
  { append, create, createNew, mode }: WriteOptions,
  signal: AbortSignal,
): Promise<void> {
  const creation = { ...(createNew ? { createNew } : { create }), ...(mode === undefined ? {} : { mode }) };
  using file = await reachOrCreate(path, creation, async (reached, left) => {
    // A new file is made or refused by the kernel, which opens nothing that is there.
    if (!createNew) await requireOpenableIfThere(reached);
    const options = { write: true, append, truncate: !append, ...left };
    const opened = await abortable(Deno.open(reached, options), signal, (late) => late.close());
    // The mode is that of the file afterwards: opening applies it to a new file only, and under the umask.
    if (mode !== undefined) await orClose(opened, Deno.chmod(reached, mode));
    return opened;
  });
  if (content instanceof Uint8Array) return await writeAll(file, content);
  const chunks = content[Symbol.asyncIterator]();
  for (
    let next = await abortable(chunks.next(), signal);
    next.done !== true;
    next = await abortable(chunks.next(), signal)
  ) {
    await writeAll(file, next.value);
  }
}

async function orClose(file: Deno.FsFile, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Writes all bytes, however many calls that takes. */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length; ) written += await file.write(bytes.subarray(written));
}

function tooLarge(path: string): AppError {
  const limit = `${READ_LIMIT_BYTES / 1024 / 1024} MiB`;
  return new AppError(
    "Error",
    `Cannot read ${JSON.stringify(path)} in one answer: it has more than ${limit}. Open it and read it in parts`,
    "EFBIG",
  );
}
