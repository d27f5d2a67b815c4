import { Buffer } from "node:buffer";
import { CHUNK_MESSAGE_BYTES, chunkMessageParts, decodedLength, findChunk } from "@caisson/protocol/chunk-message";
import { STREAM_CHUNK_BYTES } from "@caisson/protocol/rpc";
import { type Bytes, decodeBase64, encodeBase64 } from "./bytes.ts";

const BUFFER_BYTES = 4 * Math.ceil(STREAM_CHUNK_BYTES / 3) + CHUNK_MESSAGE_BYTES;
/** As many as wait to be sent at a time. */
const FREE_MAX = 16;

/**
 * Makes the messages that carry chunks, in a few buffers that are used again: with new ones the garbage collector would go over the whole heap many times
 * a gigabyte.
 */
export class ChunkMessages {
  readonly #free: Buffer[] = [];

  /** The message for a chunk of at most `STREAM_CHUNK_BYTES`. It is to be given back when it was sent. */
  make(streamId: number, chunk: Uint8Array): Buffer {
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
    const [before, after] = chunkMessageParts(streamId);
    let length = buffer.write(before, 0, "latin1");
    length += buffer.write(encodeBase64(chunk), length, "latin1");
    length += buffer.write(after, length, "latin1");
    return buffer.subarray(0, length);
  }

  giveBack(message: Buffer): void {
    if (this.#free.length < FREE_MAX) this.#free.push(Buffer.from(message.buffer));
  }
}

/** The chunk that a message carries; null when it has to be parsed to know what it is. */
export function readChunkMessage(message: Buffer): { readonly streamId: number; readonly bytes: Bytes } | null {
  const found = findChunk(message);
  if (found === null) return null;
  const bytes = decodeBase64(message.toString("latin1", found.start, found.end));
  return bytes.length === decodedLength(message, found) ? { streamId: found.streamId, bytes } : null;
}
