import type { FileHandle } from "node:fs/promises";
import { extents, syncFile } from "@caisson/linux";
import type { ImagePiece } from "../driver.ts";

const BLOCK_BYTES = 4096;
const ZEROES = Buffer.alloc(BLOCK_BYTES);
/** What is read, and at most joined into one piece. */
const READ_BYTES = 256 * BLOCK_BYTES;

/** Writes pieces that do not overlap, side by side: each is short, and most of its time is the way to a thread and back. */
export async function writePieces(file: FileHandle, content: readonly ImagePiece[]): Promise<void> {
  const write = async ({ offset, bytes }: ImagePiece): Promise<void> => {
    for (let written = 0; written < bytes.length; )
      written += (await file.write(bytes, written, bytes.length - written, offset + written)).bytesWritten;
  };
  // None may be under way when this answers. A full pool fails them all for the same reason.
  const results = await Promise.allSettled(content.map(write));
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/** What the file holds, in blocks, without holes and blocks that are zero. */
export async function readPieces(file: FileHandle, path: string): Promise<readonly ImagePiece[]> {
  // What is in the page cache only may have no extent yet.
  await syncFile(file, path);
  const pieces: ImagePiece[] = [];
  const buffer = Buffer.alloc(READ_BYTES);
  for await (const { offset, length, isUnwritten } of extents(file, path)) {
    if (isUnwritten) continue;
    for (let position = offset; position < offset + length; position += READ_BYTES) {
      const wanted = Math.min(READ_BYTES, offset + length - position);
      const { bytesRead } = await file.read(buffer, 0, wanted, position);
      pieces.push(...nonZeroPieces(buffer.subarray(0, bytesRead), position));
    }
  }
  return pieces;
}

/** Runs of blocks that are not all zero; each piece has memory of its own. */
export function* nonZeroPieces(bytes: Buffer, offset: number): Generator<ImagePiece, void> {
  let start: number | null = null;
  for (let at = 0; at <= bytes.length; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const isEmpty = block.equals(ZEROES.subarray(0, block.length));
    if (!isEmpty) start ??= at;
    if (!isEmpty || start === null) continue;
    yield { offset: offset + start, bytes: Uint8Array.from(bytes.subarray(start, at)) };
    start = null;
  }
}
