import type { Writable } from "node:stream";
import type { DiskPiece } from "@caisson/node";
import { FRAME, type Frame, writeFrame } from "./frames.ts";

const OFFSET_BYTES = 8;

/** Writes pieces, each when there is room for it, and the end. `onWritten` runs after each. */
export async function writePieces(
  stream: Writable,
  pieces: AsyncIterable<DiskPiece>,
  onWritten: () => void = () => {},
): Promise<void> {
  for await (const { offset, bytes } of pieces) {
    const body = Buffer.allocUnsafeSlow(OFFSET_BYTES + bytes.length);
    body.writeBigUInt64BE(BigInt(offset), 0);
    body.set(bytes, OFFSET_BYTES);
    await writeFrame(stream, FRAME.piece, body);
    onWritten();
  }
  await writeFrame(stream, FRAME.end, Buffer.alloc(0));
}

/** The pieces of a sequence up to its end. Throws where it is cut off, and what `decode` makes of an error that comes instead. */
export async function* readPieces(
  frames: AsyncGenerator<Frame, void>,
  decode: (body: Buffer) => Error,
): AsyncGenerator<DiskPiece, void> {
  for await (const { kind, body } of frames) {
    if (kind === FRAME.end) return;
    if (kind === FRAME.error) throw decode(body);
    if (kind !== FRAME.piece || body.length < OFFSET_BYTES) throw new Error("the peer does not speak this protocol");
    yield { offset: Number(body.readBigUInt64BE(0)), bytes: body.subarray(OFFSET_BYTES) };
  }
  throw new Error("the pieces were cut off");
}
